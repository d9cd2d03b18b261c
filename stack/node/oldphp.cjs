// Runs one script with one version of PHP (WebAssembly): node oldphp.cjs VERSION SCRIPT FOLDER…
//
// Every folder is mounted under its own path. NODE_PATH names the folder of the packages, and
// the variables in OLDPHP_ENV, a JSON object, are what getenv() sees.
'use strict';
const { loadNodeRuntime, createNodeFsMountHandler } = require('@php-wasm/node');
const { PHP } = require('@php-wasm/universal');

async function main([version, script, ...folders]) {
    // Without a process id it refuses to lock files.
    const php = new PHP(await loadNodeRuntime(version, { emscriptenOptions: { processId: process.pid } }));
    for (const folder of folders) {
        php.mkdir(folder);
        await php.mount(folder, createNodeFsMountHandler(folder));
    }
    const env = JSON.parse(process.env.OLDPHP_ENV || '{}');
    const done = await php.run({ scriptPath: script, env });
    process.stderr.write(done.errors);
    process.stdout.write(Buffer.from(done.bytes), () => process.exit(done.exitCode));
}

main(process.argv.slice(2)).catch((error) => {
    process.stderr.write(`${error.stack}\n${error.response ? error.response.text : ''}\n`);
    process.exit(70);
});

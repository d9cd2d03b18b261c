-- What wrk counted, exactly, as one JSON object on a line of its own. Called once, at the end.
function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "bytes": %d, "microseconds": %d, "failed": %d}\n',
        summary.requests, summary.bytes, summary.duration,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end

-- With a number after `--`, each request has another one, counted from there, in the place of
-- every run of twelve `@` in the target and the headers.
function init(args)
    local number = tonumber(args[1])
    if number == nil then return end
    local pieces = {}
    for piece in (wrk.format() .. "@@@@@@@@@@@@"):gmatch("(.-)@@@@@@@@@@@@") do
        pieces[#pieces + 1] = piece
    end
    function request()
        number = number + 1
        return table.concat(pieces, string.format("%012d", number))
    end
end

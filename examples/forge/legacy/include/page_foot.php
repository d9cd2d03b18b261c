</div>
<div id="footer">Forge, home of free software since 2004. Metadata from the Debian project.</div>
</body>
</html>

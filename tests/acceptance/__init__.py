"""The product as an operator runs it: real servers, the command line, and bytes on sockets."""

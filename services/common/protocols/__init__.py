"""What servers and clients have in common: errors in HTTP and gRPC, and the rules of HTTP."""

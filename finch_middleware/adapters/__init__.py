"""
Adapters connect the component to frameworks that do not speak WSGI, and to access logs.

The duties of an adapter, for whoever writes another one:

1. Look up the request's path in `finch.paths`: equal bytes, below whatever prefix the
   application is mounted at.
2. Pass every other request on unchanged, with the very same objects.
3. Call the function found there with the request. It returns a werkzeug Response: send its
   status, body and headers, including every Set-Cookie header, and close it.
4. Catch no error, and keep no state of a request.
5. Leave the body to the component. An adapter that must read it first, as `asgi` must, asks
   `finch.body_limit_bytes(environ)` for the limit, reads only what `declared_length` accepts
   under it, and for `BODY_SECONDS` at most.
6. The component blocks: call it in a thread where the framework is asynchronous. Use a pool of
   the adapter's own, and finish the work even if the client has disconnected.
7. When building an environ, drop each header with an underscore in its name: it would be taken
   for the header with a hyphen, which a proxy may vouch for.
"""

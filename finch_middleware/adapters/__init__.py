"""
Adapters put the component where requests come by.

To write one: look the request's path up in `finch.paths`, byte for byte and below whatever
prefix the application is mounted; pass every other request on untouched; give yours to the
function that stands there and send the werkzeug Response that comes back, every Set-Cookie
of it. An adapter catches no error and keeps no state of a request. `wsgi` reads no body either;
`asgi` has to, and reads no more of it than the component would, closes the Response as a WSGI
server does, and lets the component, which blocks, work in `threads` that are not the
application's. Who writes an environ leaves out each header with an underscore in its name: it
would pass for the one with a hyphen, which a proxy may vouch for.
"""

"""HTTP and WebSocket edge: routes, connections, pages."""

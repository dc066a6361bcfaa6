"""The programs `streamer serve` and `streamer mic`, and what the programs of gateways have in common with them."""

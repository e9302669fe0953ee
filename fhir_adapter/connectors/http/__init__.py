"""HTTP as every request of a site has it: TLS, proxies, retries, bounds."""

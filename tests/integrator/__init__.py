"""An integrator who has read nothing but `/openapi.json` and `/asyncapi.json`."""

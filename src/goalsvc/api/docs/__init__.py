"""The pages at `/docs`: the OpenAPI and AsyncAPI documents, to try and to read."""

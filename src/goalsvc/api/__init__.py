"""The HTTP interface: one module for each resource. It announces and reads; what follows is done by receivers and tasks."""

"""Authentication of people and programs, and the permission that each route asks for."""

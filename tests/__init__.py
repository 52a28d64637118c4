"""The tests of Posthouse, by what they need: nothing, one server, or the whole house."""

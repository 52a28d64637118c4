"""The pages that people see, rendered on the server.

Every page works without JavaScript; the modules in `services/admin/static` add search as you type,
pickers and live figures. `build` gives the application that the admin service mounts at `/`.
"""

"""Stand-ins for what is outside the shop. Processes of their own: no service imports one."""

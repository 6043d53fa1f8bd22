"""How the admin writes dates: as the operators' pages do, never in twelve hours."""

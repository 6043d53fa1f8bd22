"""Every write of the widget."""

"""Every write of the counters."""

from counters.services.calendars import clear_calendar, set_calendar
from counters.services.period_states import set_period_state

__all__ = ["clear_calendar", "set_calendar", "set_period_state"]

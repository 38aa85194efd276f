//! Schedules of an install: kept, checked, and fired when they are due.

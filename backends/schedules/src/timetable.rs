//! When a schedule is due: five cron fields in a time zone.
//!
//! A clock that goes forward or back: a job at one fixed time of the day runs exactly once, at the first moment after
//! a gap that swallowed its time, and at the first of two equal times; every other pattern follows the clock on the wall,
//! so that `*/30 * * * *` runs each half hour that passes.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Weekday};

/// Longer patterns are refused: a list of every minute has 170 characters.
const MAX_CRON_CHARS: usize = 256;

/// Dates, weekdays and leap years repeat after 28 years (until 2099), so what holds for these holds for ever.
const CALENDAR_YEARS: u32 = 28;

/// How far ahead changes of the clock are looked at. Rules are made a year or two ahead at best.
const ZONE_DAYS: i64 = 3 * 366;

/// Why something is no timetable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// Not five fields, or a field that makes no sense.
    #[error("no five-field cron expression: {0}")]
    Cron(String),
    /// Two ways to say which days.
    #[error("day of month and day of week cannot both be set")]
    BothDays,
    /// A date that does not exist.
    #[error("it would never run")]
    Never,
    /// Two times that are too near.
    #[error("runs must be at least {min} apart; it would run at {first} and again at {second}")]
    TooOften {
        /// The rule.
        min: String,
        /// A time.
        first: String,
        /// The next one.
        second: String,
    },
    /// No name of the IANA database.
    #[error("`{0}` is no IANA time zone such as Europe/Berlin")]
    Zone(String),
}

/// The time zone of this name.
pub fn zone(name: &str) -> Result<Tz, TimetableError> {
    Tz::from_str(name.trim()).map_err(|_| TimetableError::Zone(name.chars().take(64).collect()))
}

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct Timetable {
    cron: Cron,
    zone: Tz,
}

impl Timetable {
    /// Reads one.
    pub fn new(cron: &str, zone: Tz) -> Result<Self, TimetableError> {
        let cron = cron.trim();
        let refuse = |why: &str| Err(TimetableError::Cron(why.to_owned()));
        if cron.chars().count() > MAX_CRON_CHARS {
            return refuse("it is too long");
        }
        let fields: Vec<_> = cron.split_ascii_whitespace().collect();
        let [_, _, day, _, weekday] = fields.as_slice() else {
            return refuse(&format!("it has {} fields", fields.len()));
        };
        let any = |field: &str| matches!(field, "*" | "?");
        if !any(day) && !any(weekday) {
            return Err(TimetableError::BothDays);
        }
        // `+` joins the two day fields and says nothing where one of them is `*`.
        if cron.contains(['+', '@']) {
            return refuse("`+` and `@` are not supported");
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(cron).map_err(|error| TimetableError::Cron(error.to_string()))?;
        Ok(Self { cron, zone })
    }

    /// The first time after `after_ms` (milliseconds since 1970), or `None` if there is none.
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        // Whole seconds: on the second half of a fold the library takes the fraction for a time not yet passed.
        let mut from = DateTime::from_timestamp(after_ms.div_euclid(1_000), 0)?;
        for _ in 0..3 {
            if let Ok(next) = self.cron.find_next_occurrence(&from.with_timezone(&self.zone), false) {
                return Some(next.timestamp_millis());
            }
            // It gives up at gaps of more than two hours, where a zone jumps over the date line: behind that it goes on.
            from += TimeDelta::days(1);
        }
        None
    }

    /// Checks that it runs at all and that two runs are never nearer than `min`: on no two days of the calendar, and not
    /// where the zone's clock is changed in the next three years.
    pub fn check(&self, min: Duration, now_ms: i64) -> Result<(), TimetableError> {
        let now = DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        self.check_calendar(min, now.date_naive())?;
        // Cron knows whole minutes: at that rate and below it, no change of the clock can break the rule.
        if min <= Duration::from_secs(60) {
            return Ok(());
        }
        self.clock_changes(now).into_iter().try_for_each(|change| self.check_around(change, min))
    }

    fn check_calendar(&self, min: Duration, today: NaiveDate) -> Result<(), TimetableError> {
        let pattern = &self.cron.pattern;
        let set =
            |test: &dyn Fn(u32) -> bool, up_to: u32| (0..up_to).filter(|v| test(*v)).collect::<Vec<_>>();
        let hours = set(&|h| pattern.hour_match(h).unwrap_or(false), 24);
        let minutes = set(&|m| pattern.minute_match(m).unwrap_or(false), 60);
        let times: Vec<i64> =
            hours.iter().flat_map(|h| minutes.iter().map(move |m| i64::from(h * 60 + m))).collect();
        let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else {
            return Err(TimetableError::Never);
        };
        let min_minutes = i64::try_from(min.as_secs().div_ceil(60)).unwrap_or(i64::MAX);
        let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let too_often =
            |a: i64, b: String| TimetableError::TooOften { min: shown(min), first: clock(a), second: b };
        for pair in times.windows(2) {
            if let [a, b] = pair
                && b - a < min_minutes
            {
                return Err(too_often(*a, clock(*b)));
            }
        }
        let mut previous: Option<NaiveDate> = None;
        let until = today.checked_add_months(Months::new(CALENDAR_YEARS * 12)).unwrap_or(today);
        for date in today.iter_days().take_while(|date| *date <= until) {
            if !self.runs_on(date) {
                continue;
            }
            if let Some(before) = previous {
                let days = (date - before).num_days();
                if days * 1_440 + first - last < min_minutes {
                    let again = if days == 1 { "on the next day" } else { "some days later" };
                    return Err(too_often(last, format!("{} {again}", clock(first))));
                }
            }
            previous = Some(date);
        }
        if previous.is_none() { Err(TimetableError::Never) } else { Ok(()) }
    }

    fn runs_on(&self, date: NaiveDate) -> bool {
        let weekday = Weekday::from_days_from_sunday(date.weekday().num_days_from_sunday());
        let pattern = &self.cron.pattern;
        pattern.month_match(date.month()).unwrap_or(false)
            && pattern.day_match(date.year(), date.month(), date.day(), weekday).unwrap_or(false)
    }

    /// When the zone's offset changes in the next years.
    fn clock_changes(&self, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let offset = |at: DateTime<Utc>| self.zone.offset_from_utc_datetime(&at.naive_utc()).fix();
        let mut changes = Vec::new();
        let mut day = now - TimeDelta::days(1);
        for _ in 0..ZONE_DAYS {
            let Some(next) = day.checked_add_days(Days::new(1)) else { break };
            let before = offset(day);
            if offset(next) != before {
                let (mut low, mut high) = (day, next);
                while high - low > TimeDelta::seconds(1) {
                    let middle = low + (high - low) / 2;
                    if offset(middle) == before { low = middle } else { high = middle }
                }
                changes.push(high);
            }
            day = next;
        }
        changes
    }

    fn check_around(&self, change: DateTime<Utc>, min: Duration) -> Result<(), TimetableError> {
        // Two runs that break the rule because of the change lie on both sides of it, or in the hours that it repeats.
        let reach = TimeDelta::from_std(min).unwrap_or(TimeDelta::days(7)).min(TimeDelta::days(7))
            + TimeDelta::hours(2);
        let min_ms = i64::try_from(min.as_millis()).unwrap_or(i64::MAX);
        let (mut at, end) = ((change - reach).timestamp_millis(), (change + reach).timestamp_millis());
        let mut before: Option<i64> = None;
        while let Some(next) = self.next_after(at).filter(|next| *next <= end) {
            if let Some(first) = before.filter(|first| next - first < min_ms) {
                let shown_at = |ms: i64| {
                    let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
                    time.with_timezone(&self.zone).format("%Y-%m-%d %H:%M %Z").to_string()
                };
                return Err(TimetableError::TooOften {
                    min: shown(min),
                    first: shown_at(first),
                    second: shown_at(next),
                });
            }
            before = Some(next);
            at = next;
        }
        Ok(())
    }
}

fn shown(min: Duration) -> String {
    match min.as_secs() {
        seconds if seconds % 60 == 0 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(300);

    fn ms(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    fn table(cron: &str, name: &str) -> Result<Timetable, TimetableError> {
        Timetable::new(cron, zone(name)?)
    }

    fn check(cron: &str, name: &str) -> Result<(), TimetableError> {
        table(cron, name)?.check(FIVE, ms("2026-01-15T12:00:00Z"))
    }

    /// The times after `after`, in UTC.
    fn times(cron: &str, name: &str, after: &str, count: usize) -> Vec<String> {
        let table = table(cron, name).unwrap();
        let mut at = ms(after);
        let mut step = || {
            at = table.next_after(at).unwrap();
            DateTime::from_timestamp_millis(at).unwrap().format("%m-%dT%H:%MZ").to_string()
        };
        (0..count).map(|_| step()).collect()
    }

    #[test]
    fn a_time_that_a_gap_swallows_is_made_up_for_once_after_it() {
        // Berlin skips 02:00 to 03:00 on 2026-03-29 (01:00Z), New York on 2026-03-08 (07:00Z).
        let berlin = times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 4);
        assert_eq!(berlin, ["03-28T01:30Z", "03-29T01:00Z", "03-30T00:30Z", "03-31T00:30Z"]);
        let new_york = times("30 2 * * *", "America/New_York", "2026-03-07T00:00:00Z", 3);
        assert_eq!(new_york, ["03-07T07:30Z", "03-08T07:00Z", "03-09T06:30Z"]);
    }

    #[test]
    fn a_time_that_comes_twice_runs_once() {
        // Berlin repeats 02:00 to 03:00 on 2026-10-25 (until 01:00Z), New York 01:00 to 02:00 on 2026-11-01.
        let berlin = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(berlin, ["10-25T00:30Z", "10-26T01:30Z"]);
        let new_york = times("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", 2);
        assert_eq!(new_york, ["11-01T05:30Z", "11-02T06:30Z"]);
    }

    #[test]
    fn an_interval_follows_the_hours_that_pass() {
        let back = times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 5);
        assert_eq!(back, ["10-25T00:30Z", "10-25T01:00Z", "10-25T01:30Z", "10-25T02:00Z", "10-25T02:30Z"]);
        let forward = times("0 * * * *", "America/New_York", "2026-03-08T05:30:00Z", 3);
        assert_eq!(forward, ["03-08T06:00Z", "03-08T07:00Z", "03-08T08:00Z"]);
    }

    #[test]
    fn a_fraction_of_a_second_after_a_time_is_after_it_in_a_fold_too() {
        let table = table("*/10 * * * *", "Europe/Berlin").unwrap();
        for base in ["2026-10-25T00:20:00Z", "2026-10-25T01:20:00Z", "2026-06-01T01:20:00Z"] {
            assert_eq!(table.next_after(ms(base) + 400), Some(ms(base) + 600_000), "{base}");
            assert_eq!(table.next_after(ms(base) - 1), Some(ms(base)), "{base}");
        }
    }

    #[test]
    fn what_is_no_five_field_expression_is_refused() {
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "@hourly",
            "60 * * * *",
            "* 24 * * *",
            "a * * * *",
            "*/0 * * * *",
            "* * 0 * *",
            "0 0 1 * +MON",
            "0 0 * 13 *",
            "0 0 * * 8",
            "5-1 * * * *",
            "-1 * * * *",
        ] {
            let error = table(bad, "UTC").unwrap_err();
            assert!(matches!(error, TimetableError::Cron(_) | TimetableError::BothDays), "{bad}: {error}");
        }
        assert!(table(&format!("{} * * * *", "0,".repeat(200)), "UTC").is_err());
    }

    #[test]
    fn days_are_named_in_one_way_only() {
        assert_eq!(table("0 0 1 * MON", "UTC").unwrap_err(), TimetableError::BothDays);
        for good in ["0 0 1 * *", "0 0 * * MON", "0 0 1 * ?", "0 0 ? * 1-5", "0 0 L * *", "0 0 * * 5#2"] {
            check(good, "UTC").unwrap_or_else(|error| panic!("{good}: {error}"));
        }
    }

    #[test]
    fn runs_nearer_than_five_minutes_are_refused_wherever_they_meet() {
        for (bad, zone) in [
            ("* * * * *", "UTC"),
            ("*/4 * * * *", "UTC"),
            ("0,4 12 * * *", "UTC"),
            // Only over the hour, only over midnight.
            ("2,58 * * * *", "UTC"),
            ("2,58 0,23 * * *", "UTC"),
            // 59 past 1, then 3 o'clock: a minute apart where the clock skips an hour.
            ("0,59 1,3 * * *", "Europe/Berlin"),
            // Over midnight between two months.
            ("2,58 0,23 1,L * *", "UTC"),
        ] {
            let error = check(bad, zone).unwrap_err();
            assert!(matches!(error, TimetableError::TooOften { .. }), "{bad} {zone}: {error}");
        }
        for (good, zone) in [
            ("*/5 * * * *", "America/New_York"),
            ("*/5 * * * *", "Australia/Lord_Howe"),
            ("0,5,55 * * * *", "UTC"),
            ("0,59 1,3 * * *", "UTC"),
            // 23:58 and 00:02, but never on two days in a row.
            ("2,58 0,23 10 * *", "UTC"),
            ("2,58 0,23 * * 1,3", "UTC"),
            ("0 0 29 2 *", "Asia/Tokyo"),
        ] {
            check(good, zone).unwrap_or_else(|error| panic!("{good} {zone}: {error}"));
        }
    }

    #[test]
    fn the_refusal_names_the_rule_and_both_times() {
        let text = check("2,58 * * * *", "UTC").unwrap_err().to_string();
        assert_eq!(text, "runs must be at least 5 minutes apart; it would run at 00:58 and again at 01:02");
        let text = check("0,59 1,3 * * *", "Europe/Berlin").unwrap_err().to_string();
        assert!(text.contains("2026-03-29 01:59 CET and again at 2026-03-29 03:00 CEST"), "{text}");
    }

    #[test]
    fn another_interval_may_be_configured() {
        let every_minute = table("* * * * *", "Europe/Berlin").unwrap();
        assert_eq!(every_minute.check(Duration::from_secs(60), 0), Ok(()));
        assert!(every_minute.check(Duration::from_secs(61), 0).is_err());
        assert_eq!(table("0 0 * * *", "UTC").unwrap().check(Duration::from_secs(86_400), 0), Ok(()));
    }

    #[test]
    fn a_date_that_never_comes_is_refused_at_once() {
        for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            assert_eq!(check(never, "UTC"), Err(TimetableError::Never), "{never}");
        }
    }

    #[test]
    fn a_zone_has_a_name_of_the_iana_database() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(zone(good).is_ok(), "{good}");
        }
        for bad in ["", "Berlin", "europe/berlin2", "+02:00", "CEST", "Europe/Berlin\n../x"] {
            assert!(zone(bad).is_err(), "{bad}");
        }
    }
}

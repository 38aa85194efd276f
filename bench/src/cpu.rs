//! CPU time of processes: unlike latency it hardly depends on what else the machine does.

use std::time::Duration;

/// What a process has used so far, in its own code and in the kernel. None where there is no `/proc`, or no such process.
pub fn used(process: u32) -> Option<Duration> {
    parse(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?, ticks_per_second())
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

/// Fields 14 and 15 of proc(5). The name, which is field 2, may hold blanks and parentheses: counted from the last one.
fn parse(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / ticks_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added_whatever_the_name() {
        let stat = "12 (a b) c) S 1 12 12 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0";
        assert_eq!(parse(stat, 100), Some(Duration::from_secs(2)));
        assert_eq!(parse("12 (a) S 1 2", 100), None);
        assert_eq!(parse("", 100), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_own_process_has_a_time_and_a_missing_one_has_none() {
        assert!(used(std::process::id()).is_some());
        // Above the largest id that the kernel gives.
        assert!(used(u32::MAX).is_none());
    }
}

//! Memory of this process.

/// What is resident, in bytes. None where there is no `/proc`.
pub fn resident() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/statm").ok()?, rustix::param::page_size() as u64)
}

/// The second field of proc(5) statm, in pages.
fn parse(statm: &str, page: u64) -> Option<u64> {
    Some(statm.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? * page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_the_second_field_in_pages() {
        assert_eq!(parse("900 7 3 1 0 4 0", 4096), Some(7 * 4096));
        assert_eq!(parse("900", 4096), None);
        assert_eq!(parse("", 4096), None);
    }
}

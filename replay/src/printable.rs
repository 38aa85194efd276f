//! What a guest chose must not steer a terminal, nor fill it.

/// A text of one line, without control characters and characters that turn the direction of writing, at most `most`
/// bytes.
pub fn line(text: &str, most: usize) -> String {
    let cut = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    let mut shown = String::with_capacity(cut.len());
    for c in cut.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            // The marks and overrides of bidirectional text, and the separators that some terminals break lines at.
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.push('\u{fffd}');
            }
            c if c.is_control() => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => shown.push(c),
        }
    }
    if cut.len() < text.len() {
        shown.push_str(&format!("... ({} bytes)", text.len()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(line("a\x1b[2J\n\u{202e}\u{9b}31m", 100), "a\\u{1b}[2J\\n\u{fffd}\\u{9b}31m");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        assert_eq!(line("aaaa\u{20ac}", 5), "aaaa... (7 bytes)");
    }
}

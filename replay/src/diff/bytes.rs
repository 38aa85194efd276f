//! Bytes that differ: where, and what stands around it.

use super::Diff;

/// Bytes of a line of the dump.
const WIDTH: usize = 16;
/// Lines: one before, the difference, one after.
const LINES: usize = 3;

pub(super) fn diff(recorded: &[u8], replayed: &[u8]) -> Diff {
    let shorter = recorded.len().min(replayed.len());
    let offset = recorded.iter().zip(replayed).position(|(one, other)| one != other).unwrap_or(shorter);
    let from = (offset / WIDTH).saturating_sub(1) * WIDTH;
    Diff::Bytes {
        offset: offset as u64,
        recorded_bytes: recorded.len() as u64,
        replayed_bytes: replayed.len() as u64,
        recorded: dump(recorded, from),
        replayed: dump(replayed, from),
    }
}

fn dump(bytes: &[u8], from: usize) -> Vec<String> {
    let part = bytes.get(from..).unwrap_or_default();
    let lines = part.chunks(WIDTH).take(LINES).enumerate().map(|(at, chunk)| {
        let hex: String = chunk.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String = chunk
            .iter()
            .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
            .collect();
        format!("{:08x}  {hex:<48} {text}", from + at * WIDTH)
    });
    lines.collect()
}

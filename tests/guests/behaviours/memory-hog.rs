//! Takes memory and touches each page of it. Without parameters until it is refused, which aborts it (a trap); `?mb=N` takes N MiB and answers;
//! `?try` takes until it is refused and answers how much it got, as a guest does that checks its allocations. `?step=N` is the piece in MiB (1).

use kit::{Query, Request, Response, json};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(step) = query.number("step", 1) else { return kit::bad_parameter("step") };
    let Ok(wanted) = query.number("mb", u64::MAX) else { return kit::bad_parameter("mb") };
    let checked = query.has("try");
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut taken = 0;
    while taken < wanted {
        let piece = step.clamp(1, wanted - taken);
        let bytes = usize::try_from(piece).unwrap_or(usize::MAX).saturating_mul(MIB);
        let mut memory = Vec::new();
        if checked {
            if memory.try_reserve_exact(bytes).is_err() || held.try_reserve(1).is_err() {
                break;
            }
        } else {
            memory.reserve_exact(bytes);
        }
        memory.resize(bytes, 0);
        for byte in memory.iter_mut().step_by(PAGE) {
            *byte = 0xa5;
        }
        held.push(memory);
        taken += piece;
    }
    let touched: u64 =
        held.iter().flat_map(|memory| memory.iter().step_by(PAGE)).map(|byte| u64::from(*byte == 0xa5)).sum();
    kit::json_body(&json!({ "mb": taken, "touched_pages": touched, "refused": taken < wanted }))
}

kit::handler!(handle);

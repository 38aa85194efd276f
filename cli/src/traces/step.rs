//! `longshore replay --step`: stops before each host call and asks what to do. Reads lines, from a terminal or a pipe; everything is said on
//! stderr, so that stdout has the report alone.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use longshore_replay::player::parse_override;
use longshore_replay::{Override, Step, StepAnswer, Stepper};
use parking_lot::Mutex;
use serde_json::Value;

use super::values::cut;
use crate::output::printable;

/// What is shown of arguments and results unless they are asked for.
const MAX_CHARS: usize = 400;
/// A line that is read: an override may carry a body.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// What can be said.
const HELP: &str = "n (or Enter): answer as recorded and go on; c: run to the end; p: print all of it; \
                    o [N=]error:CASE or o [N=]result:JSON: answer call N (this one) so; q: stop here";

/// Asks a person or a script.
pub struct Prompt<R, W> {
    state: Mutex<State<R, W>>,
}

struct State<R, W> {
    from: R,
    to: W,
    /// Said for calls that are still to come.
    wished: BTreeMap<u32, Override>,
    runs_on: bool,
}

impl<R: BufRead, W: Write> Prompt<R, W> {
    /// Of these lines, to there.
    pub fn new(from: R, to: W) -> Self {
        Self { state: Mutex::new(State { from, to, wished: BTreeMap::new(), runs_on: false }) }
    }
}

impl<R: BufRead + Send, W: Write + Send> Stepper for Prompt<R, W> {
    fn before(&self, step: &Step) -> StepAnswer {
        let mut state = self.state.lock();
        let wished = step.recorded.and_then(|number| state.wished.remove(&number));
        if state.runs_on {
            return wished.map_or(StepAnswer::Go, StepAnswer::Override);
        }
        state.ask(step, wished)
    }
}

/// What a line says.
#[derive(Debug, PartialEq)]
enum Said {
    Next,
    Continue,
    Print,
    Quit,
    Override(Option<u32>, Override),
    Nothing(String),
}

/// `recorded` is the number that an override without one means.
fn understand(line: &str, recorded: Option<u32>) -> Said {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (word, rest.trim()) {
        ("" | "n" | "next", "") => Said::Next,
        ("c" | "continue", "") => Said::Continue,
        ("p" | "print", "") => Said::Print,
        ("q" | "quit", "") => Said::Quit,
        ("o" | "override", rest) if !rest.is_empty() => {
            let numbered = rest.starts_with(|c: char| c.is_ascii_digit());
            let text = if numbered { rest.to_owned() } else { format!("{}={rest}", recorded.unwrap_or(0)) };
            match parse_override(&text) {
                Ok((number, wished)) => Said::Override(numbered.then_some(number), wished),
                Err(error) => Said::Nothing(error.to_string()),
            }
        }
        _ => Said::Nothing(HELP.to_owned()),
    }
}

impl<R: BufRead, W: Write> State<R, W> {
    fn ask(&mut self, step: &Step, mut wished: Option<Override>) -> StepAnswer {
        self.show(step, MAX_CHARS);
        if wished.is_some() {
            self.say("     it is answered as you said");
        }
        loop {
            let _ = write!(self.to, "step> ").and_then(|()| self.to.flush());
            let mut line = String::new();
            let read = std::io::Read::take(&mut self.from, MAX_LINE_BYTES).read_line(&mut line);
            if !matches!(read, Ok(bytes) if bytes > 0) {
                // Nobody is there to answer any more.
                self.say("");
                self.runs_on = true;
                return wished.map_or(StepAnswer::Go, StepAnswer::Override);
            }
            match understand(&line, step.recorded) {
                Said::Next => return wished.map_or(StepAnswer::Go, StepAnswer::Override),
                Said::Continue => {
                    self.runs_on = true;
                    return wished.map_or(StepAnswer::Go, StepAnswer::Override);
                }
                Said::Quit => return StepAnswer::Stop,
                Said::Print => self.show(step, usize::MAX),
                Said::Override(number, answer) if number.is_none() || number == step.recorded => {
                    wished = Some(answer);
                    return wished.map_or(StepAnswer::Go, StepAnswer::Override);
                }
                Said::Override(number, answer) => {
                    let number = number.unwrap_or_default();
                    self.say(&format!(
                        "     call {number} will be answered so, if it is asked for from here on"
                    ));
                    self.wished.insert(number, answer);
                }
                Said::Nothing(why) => self.say(&format!("     {}", printable(why))),
            }
        }
    }

    fn show(&mut self, step: &Step, most: usize) {
        let recorded = match step.recorded {
            Some(number) => format!("[{number}]"),
            None => "[not recorded]".to_owned(),
        };
        let value = |value: &Value| cut(&printable(value.to_string()), most);
        self.say(&format!("{recorded} {}  {}", printable(&step.function), value(&step.args)));
        if let Some(outcome) = &step.outcome {
            self.say(&format!("     {}: {}", printable(outcome), value(&step.result)));
        }
    }

    fn say(&mut self, text: &str) {
        // Nobody may be reading: the replay goes on.
        let _ = writeln!(self.to, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(number: u32) -> Step {
        Step {
            number,
            recorded: Some(number),
            function: "http.fetch\u{1b}[2J".to_owned(),
            args: json!({ "url": "x".repeat(1_000) }),
            outcome: Some("ok".to_owned()),
            result: json!({ "status": 200 }),
        }
    }

    fn answers(lines: &str, steps: u32) -> (Vec<StepAnswer>, String) {
        let prompt = Prompt::new(lines.as_bytes(), Vec::new());
        let answers = (0..steps).map(|number| prompt.before(&step(number))).collect();
        let said = String::from_utf8(prompt.state.into_inner().to).unwrap();
        (answers, said)
    }

    #[test]
    fn lines_walk_through_a_replay_and_the_end_of_them_lets_it_run_on() {
        use StepAnswer::{Go, Stop};
        let (given, said) = answers("n\n\nq\n", 3);
        assert_eq!(given, [Go, Go, Stop]);
        assert_eq!(said.matches("step> ").count(), 3);
        assert!(!said.contains('\u{1b}') && said.contains(" ..."), "{said}");
        let (given, said) = answers("c\n", 3);
        assert_eq!((given, said.matches("step> ").count()), (vec![Go; 3], 1));
        assert_eq!(answers("", 2).0, [Go, Go]);
        let (_, said) = answers("p\nn\n", 1);
        assert!(said.contains(&"x".repeat(1_000)), "{said}");
    }

    #[test]
    fn an_answer_may_be_for_this_call_or_for_one_to_come() {
        let timeout = || StepAnswer::Override(Override::Error("timeout".to_owned()));
        assert_eq!(answers("o error:timeout\nc\n", 2).0, [timeout(), StepAnswer::Go]);
        assert_eq!(answers("o 1=error:timeout\nc\n", 3).0, [StepAnswer::Go, timeout(), StepAnswer::Go]);
        assert_eq!(answers("o 0=error:timeout\n", 1).0, [timeout()]);
        assert_eq!(
            answers("o result:{\"a\":1}\n", 1).0,
            [StepAnswer::Override(Override::Result(json!({"a": 1})))]
        );
    }

    #[test]
    fn what_is_not_understood_is_told_and_asked_again() {
        for nonsense in ["x", "o", "o error:", "o result:{", "next please", "o 1=delay:5", "9"] {
            let (given, said) = answers(&format!("{nonsense}\nq\n"), 1);
            assert_eq!(given, [StepAnswer::Stop], "{nonsense}");
            assert_eq!(said.matches("step> ").count(), 2, "{nonsense}: {said}");
        }
    }
}

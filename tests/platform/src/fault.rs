//! Answers that a platform should not give, and sometimes does.

use std::collections::VecDeque;

/// What happens to a request instead of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status with this body.
    Status(u16, String),
    /// 200 with half a JSON document.
    Malformed,
    /// 200 with nothing.
    Empty,
    /// No answer until the stub stops.
    Hang,
    /// 307 to this address.
    Redirect(String),
    /// 200 with 9 MiB of JSON.
    HugeBody,
    /// The connection closes in the middle of the answer.
    DropConnection,
}

/// Faults to come.
#[derive(Default)]
pub(crate) struct Faults(VecDeque<(String, String, Fault)>);

impl Faults {
    pub(crate) fn push(&mut self, api: &str, operation: &str, fault: Fault) {
        self.0.push_back((api.to_owned(), operation.to_owned(), fault));
    }

    /// The fault for this request, which is thereby used up.
    pub(crate) fn take(&mut self, api: &str, operation: &str) -> Option<Fault> {
        let fits = |wanted: &str, is: &str| wanted == "*" || wanted == is;
        let at = self.0.iter().position(|(a, o, _)| fits(a, api) && fits(o, operation))?;
        self.0.remove(at).map(|(_, _, fault)| fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_once_by_the_request_it_is_meant_for() {
        let mut faults = Faults::default();
        faults.push("storage", "get", Fault::Empty);
        faults.push("storage", "get", Fault::Malformed);
        faults.push("*", "list", Fault::Hang);
        assert_eq!(faults.take("storage", "put"), None);
        assert_eq!(faults.take("clients", "get"), None);
        assert_eq!(faults.take("clients", "list"), Some(Fault::Hang));
        assert_eq!(faults.take("storage", "get"), Some(Fault::Empty));
        assert_eq!(faults.take("storage", "get"), Some(Fault::Malformed));
        assert_eq!(faults.take("storage", "get"), None);
    }
}

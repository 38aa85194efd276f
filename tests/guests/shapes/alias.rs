//! Calls the functions that the public `component-basic` template names differently; answers what they gave, a line each.

wit_bindgen::generate!({ path: "wit/alias.wit", generate_all });

use alga::extension::{logging, secrets, storage, ui_proxy};

struct Component;

impl Guest for Component {
    fn handler(_request: ExecuteRequest) -> ExecuteResponse {
        logging::info("an info");
        logging::warn("a warning");
        logging::error("an error");
        let body = format!(
            "{:?}\n{:?}\n{:?}",
            secrets::list(),
            storage::list("ns", None),
            ui_proxy::call("/ping", None)
        );
        ExecuteResponse { status: 200, headers: Vec::new(), body: Some(body.into_bytes()) }
    }
}

export!(Component);

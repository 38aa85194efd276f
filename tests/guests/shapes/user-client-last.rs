//! `user-data` as of 2026-01-30; answers what `get-user` gave, as Rust prints it.

wit_bindgen::generate!({ path: "wit/user-client-last.wit", generate_all });

struct Component;

impl Guest for Component {
    fn handler(_request: ExecuteRequest) -> ExecuteResponse {
        let user = alga::extension::user::get_user();
        ExecuteResponse { status: 200, headers: Vec::new(), body: Some(format!("{user:?}").into_bytes()) }
    }
}

export!(Component);

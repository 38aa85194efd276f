//! `user-data` as no version had it; answers what `get-user` gave, as Rust prints it.

wit_bindgen::generate!({ path: "wit/user-unknown.wit", generate_all });

struct Component;

impl Guest for Component {
    fn handler(_request: ExecuteRequest) -> ExecuteResponse {
        let user = alga::extension::user::get_user();
        ExecuteResponse { status: 200, headers: Vec::new(), body: Some(format!("{user:?}").into_bytes()) }
    }
}

export!(Component);

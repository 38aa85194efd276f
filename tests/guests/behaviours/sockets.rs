//! Tries what the sandbox refuses and answers what happened: a TCP connection to 127.0.0.1 port `?port=` (80), a TCP listener, a UDP socket, the name
//! `?name=` (localhost), preopened folders, arguments and environment. Each is `ok` or the error's name.

use kit::{Query, Request, Response, Value, bindings::wasi, json};
use wasi::cli::environment;
use wasi::filesystem::preopens;
use wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasi::sockets::{
    instance_network::instance_network, ip_name_lookup, tcp_create_socket, udp_create_socket,
};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Some(port) = query.number("port", 80).ok().and_then(|port| u16::try_from(port).ok()) else {
        return kit::bad_parameter("port");
    };
    kit::json_body(&json!({
        "tcp_connect": outcome(connect(port)),
        "tcp_listen": outcome(listen()),
        "udp_bind": outcome(bind_udp()),
        "name_lookup": outcome(look_up(query.or("name", "localhost"))),
        "preopens": preopens::get_directories().into_iter().map(|(_, path)| path).collect::<Vec<_>>(),
        "arguments": environment::get_arguments(),
        "environment": environment::get_environment(),
        "initial_directory": environment::initial_cwd(),
    }))
}

fn outcome(result: Result<(), ErrorCode>) -> Value {
    match result {
        Ok(()) => json!("ok"),
        Err(code) => json!(code.name()),
    }
}

fn loopback(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

fn connect(port: u16) -> Result<(), ErrorCode> {
    let socket = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), loopback(port))?;
    socket.subscribe().block();
    socket.finish_connect().map(drop)
}

fn listen() -> Result<(), ErrorCode> {
    let socket = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), loopback(0))?;
    socket.subscribe().block();
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.subscribe().block();
    socket.finish_listen()
}

fn bind_udp() -> Result<(), ErrorCode> {
    let socket = udp_create_socket::create_udp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), loopback(0))?;
    socket.subscribe().block();
    socket.finish_bind()
}

fn look_up(name: &str) -> Result<(), ErrorCode> {
    let addresses = ip_name_lookup::resolve_addresses(&instance_network(), name)?;
    addresses.subscribe().block();
    addresses.resolve_next_address().map(drop)
}

kit::handler!(handle);

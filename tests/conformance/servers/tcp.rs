//! The steps of a script, and which script is taken.

use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use super::client::{exchange, get, hears_nothing, tcp};
use crate::scripted::{MS, Script, Scripts, closed_port, http};

const GET: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: test\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n";

#[test]
fn a_script_is_followed_step_by_step_and_the_request_is_remembered() {
    let server = Script::new()
        .accept()
        .read_head()
        .wait(100 * MS)
        .send("HTTP/1.1 200 OK\r\n\r\nhi")
        .close()
        .serve();
    let got = exchange(tcp(server.address()), GET, usize::MAX);
    assert_eq!(got.text(), "HTTP/1.1 200 OK\r\n\r\nhi");
    assert_eq!(got.error, None);
    assert!(got.took >= 100 * MS, "{:?}", got.took);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(
        (request.method(), request.target(), request.version()),
        ("GET", "/a?b=c", "HTTP/1.1")
    );
    assert_eq!(request.header("host"), Some("test"));
    assert_eq!(request.headers("x-two"), ["1", "2"]);
    assert_eq!((request.connection, server.connections()), (1, 1));
    assert!(server.all_closed_within(Duration::from_secs(5)));
    assert_eq!(server.troubles(), [""; 0]);
}

#[test]
fn bodies_are_read_by_length_in_chunks_or_by_count() {
    let server = http::ok("").serve();
    for request in [
        "POST / HTTP/1.1\r\ncontent-length: 11\r\nconnection: close\r\n\r\nhello there",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n6\r\nhello \r\n5\r\nthere\r\n0\r\n\r\n",
    ] {
        exchange(tcp(server.address()), request.as_bytes(), usize::MAX);
    }
    let by_count = Script::new()
        .read_head()
        .read(5)
        .send("HTTP/1.1 200 OK\r\n\r\n")
        .close()
        .serve();
    let request = b"POST / HTTP/1.1\r\n\r\nhello there";
    exchange(tcp(by_count.address()), request, usize::MAX);
    let bodies: Vec<_> = server.requests().into_iter().map(|one| one.body).collect();
    assert_eq!(bodies, [b"hello there", b"hello there"]);
    assert_eq!(by_count.requests()[0].body, b"hello");
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let server = http::ok("again").serve();
    let mut stream = tcp(server.address());
    for _ in 0..3 {
        stream.write_all(GET).unwrap();
        let mut text = String::new();
        let mut chunk = [0; 1024];
        while !text.ends_with("again") {
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "closed after {text:?}");
            text += &String::from_utf8_lossy(&chunk[..read]);
        }
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 3));
    drop(stream);
    assert!(server.all_closed_within(Duration::from_secs(5)));
    assert_eq!(server.troubles(), [""; 0]);
}

#[test]
fn connections_and_paths_get_their_own_scripts() {
    let server = Scripts::new()
        .connection(1, http::reset_after_accept())
        .path("/no", http::status(503))
        .otherwise(http::ok("rest"))
        .start();
    assert_eq!(get(&server, "/no").error, Some(ErrorKind::ConnectionReset));
    assert!(get(&server, "/no?x").text().starts_with("HTTP/1.1 503 "));
    assert_eq!(get(&server, "/yes").body(), b"rest");
    let targets: Vec<_> = server.requests();
    let targets: Vec<_> = targets.iter().map(|request| request.target()).collect();
    assert_eq!(targets, ["/no?x", "/yes"]);
}

#[test]
fn a_path_without_a_script_is_not_found() {
    let server = Scripts::new().path("/a", http::ok("")).start();
    assert!(get(&server, "/b").text().starts_with("HTTP/1.1 404 "));
}

#[test]
fn connections_end_by_fin_or_rst_as_told() {
    let ends = [
        (http::close_after_accept(), None),
        (http::reset_after_accept(), Some(ErrorKind::ConnectionReset)),
        (http::close_after_request(), None),
        (
            http::reset_after_request(),
            Some(ErrorKind::ConnectionReset),
        ),
        (Script::new().cut(), None),
    ];
    for (script, error) in ends {
        let server = script.clone().serve();
        let got = get(&server, "/");
        assert_eq!((got.text().as_str(), got.error), ("", error), "{script:?}");
    }
    let in_head = get(&http::reset_in_head().serve(), "/");
    assert_eq!(in_head.text(), "HTTP/1.1 200 OK\r\nserv");
    assert_eq!(in_head.error, Some(ErrorKind::ConnectionReset));
    let in_head = get(&http::close_in_head().serve(), "/");
    assert_eq!((in_head.bytes.len(), in_head.error), (21, None));
    let in_body = get(&http::reset_in_body().serve(), "/");
    assert_eq!(in_body.body(), b"some");
    assert_eq!(in_body.error, Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_server_that_stalls_says_nothing_and_sees_the_client_go() {
    for script in [http::silence(), http::no_answer()] {
        let server = script.serve();
        assert!(hears_nothing(server.address(), GET, 200 * MS));
        assert_eq!(server.connections(), 1);
        assert!(server.all_closed_within(Duration::from_secs(5)));
    }
    let server = http::stall_in_body().serve();
    let got = exchange(tcp(server.address()), GET, 43);
    assert_eq!(got.body(), b"some");
}

#[test]
fn bytes_drip_in_their_time() {
    let server = http::request().drip("abcde", 40 * MS).close().serve();
    let mut stream = tcp(server.address());
    let start = Instant::now();
    stream.write_all(GET).unwrap();
    let mut byte = [0];
    let mut last = Duration::ZERO;
    for n in 0..5 {
        stream.read_exact(&mut byte).unwrap();
        last = start.elapsed();
        assert!(last >= n * 35 * MS, "byte {n} after {last:?}");
    }
    assert!(last >= 155 * MS, "{last:?}");
    let endless = http::slow_body(30 * MS).serve();
    let head = http::head(200, &[], None).len();
    let got = exchange(tcp(endless.address()), GET, head + 4);
    assert!(got.took >= 80 * MS, "{:?}", got.took);
}

#[test]
fn a_dropped_server_leaves_nothing() {
    let server = http::silence().serve();
    let address = server.address();
    let mut stream = tcp(address);
    while server.connections() == 0 {
        std::thread::sleep(MS);
    }
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(
        stream.read(&mut [0]).unwrap_or(0),
        0,
        "the connection ends too"
    );
    std::net::TcpStream::connect(address).unwrap_err();
    std::net::TcpStream::connect(closed_port()).unwrap_err();
}

#[test]
fn servers_listen_on_ipv6_too() {
    let four = http::ok("four").serve();
    let address = format!("[::1]:{}", four.port());
    let six = Scripts::new()
        .otherwise(http::ok("six"))
        .at(&address)
        .start();
    assert_eq!(six.url("/"), format!("http://{address}/"));
    assert_eq!(get(&four, "/").body(), b"four");
    assert_eq!(get(&six, "/").body(), b"six");
}

//! The ready-made behaviours.

use std::io::Read;
use std::time::{Duration, Instant};

use super::client::{exchange, get, tcp};
use crate::scripted::{MS, Script, encoded, http};

/// What comes for a GET, as text.
fn answer(script: Script) -> String {
    let got = get(&script.serve(), "/");
    assert_eq!(got.error, None);
    got.text()
}

#[test]
fn right_answers_are_right() {
    assert_eq!(
        answer(http::ok("hi")),
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi"
    );
    assert_eq!(answer(http::status(204)), "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(
        answer(http::redirect_by(308, "/x")),
        "HTTP/1.1 308 Permanent Redirect\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"
    );
    assert!(answer(http::redirect_loop()).contains("302 Found\r\nlocation: /again\r\n"));
    assert!(answer(http::json("{}")).contains("content-type: application/json\r\n"));
    assert_eq!(answer(http::http_1_0("old")), "HTTP/1.0 200 OK\r\n\r\nold");
    assert!(
        answer(http::chunked(&["all", " is well"]))
            .ends_with("\r\n\r\n3\r\nall\r\n8\r\n is well\r\n0\r\n\r\n")
    );
}

#[test]
fn a_chain_of_redirects_has_an_end() {
    let server = http::redirect_chain(2).start();
    assert!(get(&server, "/").text().contains("location: /1\r\n"));
    assert!(get(&server, "/1").text().contains("location: /2\r\n"));
    assert_eq!(get(&server, "/2").body(), b"the end of the chain");
}

#[test]
fn packed_bodies_unpack_to_what_they_were() {
    let text = "all is well ".repeat(100);
    let gzip = get(&http::gzip(&text).serve(), "/");
    assert!(gzip.text().contains("content-encoding: gzip\r\n"));
    let mut unpacked = String::new();
    let mut decoder = flate2::read::GzDecoder::new(gzip.body());
    decoder.read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);

    let brotli = get(&http::brotli(&text).serve(), "/");
    assert!(brotli.text().contains("content-encoding: br\r\n"));
    let mut unpacked = String::new();
    let mut decoder = brotli::Decompressor::new(brotli.body(), 4096);
    decoder.read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);

    let zstd = get(&http::zstd(&text).serve(), "/");
    assert!(zstd.text().contains("content-encoding: zstd\r\n"));
    assert_eq!(zstd::decode_all(zstd.body()).unwrap(), text.as_bytes());

    for broken in [http::false_gzip(), http::truncated_gzip(&text)] {
        let got = get(&broken.serve(), "/");
        let mut decoder = flate2::read::GzDecoder::new(got.body());
        decoder.read_to_end(&mut Vec::new()).unwrap_err();
    }
}

#[test]
fn a_bomb_is_one_right_member_and_a_thousandth_of_what_it_unpacks_to() {
    // Read to its end, so that the decoder compares the checksum and the length.
    let bomb = encoded::gzip_bomb(8);
    let mut unpacked = Vec::new();
    let mut decoder = flate2::bufread::GzDecoder::new(&bomb[..]);
    decoder.read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked.len(), 8 << 20);
    assert!(unpacked.iter().all(|byte| *byte == 0));
    assert!(decoder.into_inner().is_empty(), "a single member");

    let start = Instant::now();
    let large = encoded::gzip_bomb(1024);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(large.len() < 2 << 20, "{}", large.len());
    let size = &large[large.len() - 4..];
    assert_eq!(size, (1u32 << 30).to_le_bytes());
}

#[test]
fn lengths_lie() {
    let long = get(&http::length_too_long("short").serve(), "/");
    assert!(long.text().contains("content-length: 105\r\n"));
    assert_eq!(long.body(), b"short");
    let short = get(&http::length_too_short("more than that", 4).serve(), "/");
    assert!(short.text().contains("content-length: 4\r\n"));
    assert_eq!(short.body(), b"more than that");
}

#[test]
fn broken_answers_are_broken_as_told() {
    assert!(answer(http::broken_chunk_size()).contains("\r\nnot-a-size\r\n"));
    assert!(answer(http::broken_off_in_a_chunk()).ends_with("64\r\nonly this"));
    assert!(answer(http::without_last_chunk()).ends_with("5\r\nfirst\r\n"));
    assert!(answer(http::no_content_with_a_body()).ends_with("\r\n\r\nsomething"));
    assert!(answer(http::http_0_9()).starts_with("<html>"));
    assert!(answer(http::ssh()).starts_with("SSH-2.0-"));
    let binary = get(&http::binary_body().serve(), "/");
    assert_eq!(binary.body(), b"all \xff\xfe is \0 well");
    let latin = get(&http::latin_1_header().serve(), "/").bytes;
    assert!(latin.windows(7).any(|part| part == b"M\xfcnchen"));
    let nul = get(&http::nul_in_a_header().serve(), "/").bytes;
    assert!(nul.windows(3).any(|part| part == b"a\0b"));
}

#[test]
fn what_is_too_large_is_that_large_and_what_is_endless_goes_on() {
    let large = get(&http::large_header(10_000_000).serve(), "/");
    assert!(large.bytes.len() > 10_000_000);
    assert_eq!(large.body(), b"ok");
    const ENOUGH: usize = 20 << 20;
    let request = b"GET / HTTP/1.1\r\n\r\n";
    for script in [
        http::endless_headers(),
        http::endless_body(),
        http::endless_chunks(),
    ] {
        let server = script.serve();
        let got = exchange(tcp(server.address()), request, ENOUGH);
        assert!(got.bytes.len() >= ENOUGH);
        assert!(server.all_closed_within(Duration::from_secs(5)));
    }
    let headers = http::endless_headers().serve();
    let got = exchange(tcp(headers.address()), request, 1 << 20);
    assert!(!got.text().contains("\r\n\r\n"));
}

#[test]
fn phases_take_their_time() {
    let server = http::phases(http::Phases {
        before_head: 100 * MS,
        before_body: 60 * MS,
        body_time: 80 * MS,
        ..http::Phases::default()
    })
    .serve();
    let mut stream = tcp(server.address());
    let start = Instant::now();
    let head = http::head(200, &[], Some(11)).len();
    let ends = [1, head, head + 1, head + 11];
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut read = 0;
    let times = ends.map(|end| {
        stream.read_exact(&mut vec![0; end - read]).unwrap();
        read = end;
        start.elapsed()
    });
    assert!(times[0] >= 95 * MS, "{times:?}");
    assert!(times[2] >= 155 * MS, "{times:?}");
    assert!(times[3] >= 235 * MS, "{times:?}");
}

#[test]
fn a_slow_head_comes_byte_by_byte() {
    let server = http::slow_head(5 * MS).serve();
    let got = get(&server, "/");
    assert!(got.text().starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(got.took >= 30 * 5 * MS, "{:?}", got.took);
}

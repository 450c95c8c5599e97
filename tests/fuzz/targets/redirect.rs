//! Whatever a server calls a location: it leads to http or https with a host, or nowhere.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (status, location) = input;
    if let Some(url) = sitewatch_actors::site::follow(status % 1000, location) {
        assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
        assert!(url.username().is_empty() && url.password().is_none());
    }
});

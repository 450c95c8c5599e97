//! A piece of what a server sent, as it stands in a message.

/// The beginning of something that was found, in quotes, fit for a line.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let more = if bytes.len() > LONGEST { "…" } else { "" };
    format!("{:?}{more}", text.trim())
}

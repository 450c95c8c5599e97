//! The names of a spool's files, and what the errors of a disk mean.

use std::io;

use crate::folder_lock::LOCK;

/// The file of the checkpoint.
pub(super) const CHECKPOINT: &str = "acknowledged";
/// How the names of segments end, and of those that are kept because they are damaged.
pub(super) const SEGMENT: &str = ".spool";
pub(super) const DAMAGED: &str = ".damaged";
/// So many damaged segments are kept for a look at them; older ones go.
pub(super) const KEEP_DAMAGED: usize = 16;

/// Whether a file of this name in the spool's folder is the spool's, or holds messages that Kafka has refused.
pub(super) fn is_of_the_spool(name: &str) -> bool {
    let is_segment = name.len() > 20 && name.as_bytes()[..20].iter().all(u8::is_ascii_digit);
    is_segment
        || name == LOCK
        || [CHECKPOINT, "refused."]
            .iter()
            .any(|it| name.starts_with(it))
}

pub(super) fn name(number: u64) -> String {
    format!("{number:020}{SEGMENT}")
}

pub(super) fn number(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// Refuses segments of another format. A later one has its number in the name (`….spool2`), where no torn write can hit it:
/// what another version of the program wrote is no damage, and not to be passed over.
///
/// # Errors
/// Names the first such file.
pub(super) fn refuse_foreign<'a>(names: impl Iterator<Item = &'a str>) -> io::Result<()> {
    for name in names {
        let format = name.split_once(SEGMENT).map_or("", |(_, format)| format);
        if !format.is_empty() && format.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "{name} was written by another version of this program: format {format}, this one reads 1; drain it with \
                     that version, or set another spool.dir"
                ),
            ));
        }
    }
    Ok(())
}

/// Whether the bytes are gone: the device can't read them or the file system finds them wrong (`EIO`, `EBADMSG`, `EUCLEAN`),
/// or there is no such file. Anything else, such as too many open files, passes, and costs no result.
pub(super) fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || matches!(error.raw_os_error(), Some(5 | 74 | 117))
}

pub(super) fn of_file(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// What somebody else has removed is removed.
pub(super) fn if_there(end: io::Result<()>) -> io::Result<()> {
    end.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

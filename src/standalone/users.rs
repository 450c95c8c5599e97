//! The users of the operating system: this process's, and the one whom root runs PostgreSQL as.

use std::fs;

/// A user, as the kernel knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// `nobody`, where the list of users does not say otherwise.
const NOBODY: User = User {
    uid: 65534,
    gid: 65534,
};

impl User {
    /// Whom root may run PostgreSQL as, since PostgreSQL refuses to run as root: the first is the choice for new data.
    pub(super) fn server_users() -> impl Iterator<Item = Self> {
        // Without the list, as in a container from nothing, there are no names.
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let named = ["postgres", "nobody"].map(|name| find(&users, name));
        named.into_iter().flatten().chain([NOBODY])
    }
}

fn find(users: &str, name: &str) -> Option<User> {
    let mut fields = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let user = fields.find(|fields| fields.first() == Some(&name))?;
    Some(User {
        uid: user.get(2)?.parse().ok()?,
        gid: user.get(3)?.parse().ok()?,
    })
}

/// The user of this process.
pub(super) fn ourselves() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(super) fn is_root() -> bool {
    ourselves() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgres-old:x:1:1::/:\npostgres:x:101:104:a,,:/var/lib:/bin/bash\n";
        let postgres = User { uid: 101, gid: 104 };
        assert_eq!(find(users, "postgres"), Some(postgres));
        assert_eq!(find(users, "nobody"), None);
    }
}

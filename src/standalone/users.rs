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

    /// Returns true if nobody but this user is in the group, as far as the files of the system say. A user or group of elsewhere (LDAP) is not in
    /// them: of such a group it is not known.
    pub(super) fn has_to_itself(uid: u32, gid: u32) -> bool {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        is_private_group(&read("/etc/passwd"), &read("/etc/group"), uid, gid)
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

/// Returns true if the group is the user's own: it has the user's name, nobody else's primary group is it, and it has no other members.
fn is_private_group(users: &str, groups: &str, uid: u32, gid: u32) -> bool {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let users: Vec<_> = users.lines().map(fields).collect();
    let Some(user) = users.iter().find(|user| user.get(2) == Some(&uid)) else {
        return false;
    };
    let primary: Vec<_> = users
        .iter()
        .filter(|user| user.get(3) == Some(&gid))
        .collect();
    let mut groups = groups.lines().map(fields);
    let Some(group) = groups.find(|group| group.get(2) == Some(&gid)) else {
        return false;
    };
    let members = group.get(3).map_or("", String::as_str).split(',');
    let has_others = members
        .filter(|member| !member.is_empty())
        .any(|member| member != user[0]);
    group[0] == user[0] && primary == [user] && !has_others
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

    #[test]
    fn a_group_is_private_if_its_user_alone_is_in_it() {
        let users = "ada:x:1000:1000::/:\nbob:x:1001:1001::/:\neve:x:1002:100::/:\nfay:x:1003:1003::/:\ngil:x:1004:1003::/:\n";
        let groups = "users:x:100:\nada:x:1000:\nbob:x:1001:bob,eve\nfay:x:1003:\n";
        let private = |uid, gid| is_private_group(users, groups, uid, gid);
        assert!(private(1000, 1000));
        assert!(!private(1001, 1001), "eve is a member");
        assert!(!private(1002, 100), "it is for many users");
        assert!(!private(1003, 1003), "it is the primary group of gil too");
        assert!(!private(1000, 1003), "it is another user's");
        assert!(!private(7, 7) && !private(1000, 7), "it is not known");
    }
}

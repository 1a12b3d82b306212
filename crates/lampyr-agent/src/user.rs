//! Users of the image, as its own files name them.

use std::fs;
use std::io;

/// Who a process is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) home: String,
    pub(crate) shell: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl User {
    /// Finds a user by name or number, and a group with it where one follows a
    /// colon. A number that has no name is a user with nothing.
    pub(crate) fn find(word: &str) -> io::Result<Self> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        find(word, &passwd, &groups).ok_or_else(|| io::Error::other(format!("no user '{word}'")))
    }

    /// Becomes this user for good.
    pub(crate) fn become_it(&self) -> io::Result<()> {
        // SAFETY: the list is live and as long as said; the process has one
        // thread, so there is no other to be left behind.
        let done = unsafe {
            libc::setgroups(self.groups.len(), self.groups.as_ptr()) == 0
                && libc::setresgid(self.gid, self.gid, self.gid) == 0
                && libc::setresuid(self.uid, self.uid, self.uid) == 0
        };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn find(words: &str, passwd: &str, groups: &str) -> Option<User> {
    let (user, group) = words.split_once(':').map_or((words, None), |(u, g)| (u, Some(g)));
    let user = find_user(if user.is_empty() { "0" } else { user }, passwd, groups)?;
    match group.filter(|group| !group.is_empty()) {
        None => Some(user),
        // Whoever names a group means this one alone.
        Some(group) => {
            let gid = find_group(group, groups)?;
            Some(User { gid, groups: vec![gid], ..user })
        }
    }
}

fn find_group(word: &str, groups: &str) -> Option<u32> {
    let listed = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
        (name == word).then_some(gid)
    });
    listed.or_else(|| word.parse().ok())
}

fn find_user(word: &str, passwd: &str, groups: &str) -> Option<User> {
    let number = word.parse::<u32>().ok();
    let listed = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell, ..] = fields[..] else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (name == word || number == Some(uid)).then_some((name, uid, gid, home, shell))
    });
    let (name, uid, gid, home, shell) = match (listed, number) {
        (Some(user), _) => user,
        (None, Some(number)) => (word, number, number, "/", ""),
        (None, None) => return None,
    };
    let text = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let groups = groups_of(name, gid, groups);
    Some(User {
        name: name.into(),
        home: text(home, "/"),
        shell: text(shell, "/bin/sh"),
        uid,
        gid,
        groups,
    })
}

/// The user's own group and all that list it.
fn groups_of(name: &str, gid: u32, groups: &str) -> Vec<u32> {
    let others = groups.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let (group, members) = (fields.next()?.parse().ok()?, fields.next()?);
        members.split(',').any(|member| member == name).then_some(group)
    });
    std::iter::once(gid).chain(others.filter(|group| *group != gid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nbo:x:1000:1001::/home/bo:\n";
    const GROUP: &str = "root:x:0:\nbo:x:1001:\nsudo:x:27:al,bo\nnone:x:x:bo\n";

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let bo = find("bo", PASSWD, GROUP).unwrap();
        assert_eq!((bo.uid, bo.gid, bo.groups.as_slice()), (1000, 1001, &[1001, 27][..]));
        assert_eq!((bo.home.as_str(), bo.shell.as_str()), ("/home/bo", "/bin/sh"));
        assert_eq!(find("1000", PASSWD, GROUP), Some(bo));
        assert_eq!(find("root", PASSWD, GROUP).unwrap().shell, "/bin/bash");
    }

    #[test]
    fn a_group_behind_a_colon_is_the_only_one() {
        let bo = find("bo:sudo", PASSWD, GROUP).unwrap();
        assert_eq!((bo.uid, bo.gid, bo.groups.as_slice()), (1000, 27, &[27][..]));
        assert_eq!(find("1000:7", PASSWD, GROUP).unwrap().groups, [7]);
        assert_eq!(find("bo:", PASSWD, GROUP), find("bo", PASSWD, GROUP));
        assert!(find("bo:nobody", PASSWD, GROUP).is_none());
    }

    #[test]
    fn a_number_without_a_name_is_a_user_with_nothing() {
        let nobody = find("4242", PASSWD, GROUP).unwrap();
        assert_eq!((nobody.uid, nobody.home.as_str()), (4242, "/"));
        assert_eq!(nobody.groups, [4242]);
        assert!(find("4294967296", PASSWD, GROUP).is_none());
        assert!(find("al", PASSWD, GROUP).is_none());
    }
}

//! Revocations over a restart: a file with one JSON object a line, written whole and put in place at once.

use crate::policy::revocation::{Revocation, Revocations, Target};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// Seconds since 1970.
    at: u64,
    until: u64,
}

/// The id of a revocation: the same for the same names, over restarts and on every gateway.
pub fn revocation_id(target: &Target) -> String {
    let Target { subject, token_id, group, serial, issuer, email, session_id } = target;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for name in [subject, token_id, group, serial, issuer, email, session_id] {
        // Lengths keep a name from running into the next; no name is longer than an order may be.
        digest.update(&name.as_ref().map_or(u64::MAX, |name| name.len() as u64).to_be_bytes());
        digest.update(name.as_deref().unwrap_or_default().as_bytes());
    }
    digest.finish().as_ref()[..ID_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of the digest that make an id.
const ID_BYTES: usize = 8;

/// One writer at a time: two orders at once must not put the older list in place last.
static WRITER: Mutex<()> = Mutex::new(());

/// Writes all that stand; whoever reads finds the old file or the new one.
pub fn write(path: &Path, revocations: &Revocations) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let seconds =
        |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut text = Vec::new();
    let _one = WRITER.lock();
    for Revocation { target, at, until } in revocations.list(SystemTime::now()) {
        let owned = |name: Option<std::sync::Arc<str>>| name.map(|name| name.to_string());
        let line = Line {
            subject: owned(target.subject),
            token_id: owned(target.token_id),
            group: owned(target.group),
            serial: owned(target.serial),
            issuer: owned(target.issuer),
            email: owned(target.email),
            session_id: owned(target.session_id),
            at: seconds(at),
            until: seconds(until),
        };
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
    }
    file.write_all(&text)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|fault| fault.error)?;
    std::fs::File::open(folder)?.sync_all()
}

/// Reads the file into `revocations`; one that is not there holds none.
pub fn read(path: &Path, revocations: &Revocations) -> io::Result<()> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let now = SystemTime::now();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let broken = || io::Error::other(format!("line {} is not as staunch wrote it", number + 1));
        let line: Line = serde_json::from_str(&line?).map_err(|_| broken())?;
        let name = |text: Option<String>| text.map(Into::into);
        let target = Target {
            subject: name(line.subject),
            token_id: name(line.token_id),
            group: name(line.group),
            serial: name(line.serial),
            issuer: name(line.issuer),
            email: name(line.email),
            session_id: name(line.session_id),
        };
        let time = |seconds| {
            let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            at.ok_or_else(broken)
        };
        let one = Revocation { target, at: time(line.at)?, until: time(line.until)? };
        if one.until > now {
            revocations.add(one, now).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_the_names_alone_and_of_each_in_its_place() {
        let name = |text: &str| Some(text.into());
        let ids: std::collections::BTreeSet<String> = [
            Target { subject: name("ann"), ..Target::default() },
            Target { token_id: name("ann"), ..Target::default() },
            Target { subject: name("an"), token_id: name("n"), ..Target::default() },
            Target { subject: name("ann"), token_id: name(""), ..Target::default() },
            Target { subject: name("ann"), issuer: name("corp"), ..Target::default() },
        ]
        .iter()
        .map(revocation_id)
        .collect();
        assert_eq!(ids.len(), 5);
        assert!(ids.iter().all(|id| id.len() == 16), "{ids:?}");
        let again = Target { subject: name("ann"), ..Target::default() };
        assert!(ids.contains(&revocation_id(&again)));
    }

    #[test]
    fn what_was_written_is_read_and_what_is_over_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revocations.jsonl");
        let (all, now) = (Revocations::default(), SystemTime::now());
        read(&path, &all).unwrap();
        assert!(all.list(now).is_empty());
        for (subject, seconds) in [("ann", 100), ("bob", 0)] {
            let email = Some(format!("{subject}@corp.test").into());
            let target = Target { subject: Some(subject.into()), email, ..Target::default() };
            all.add(Revocation { target, at: now, until: now + Duration::from_secs(seconds) }, now).unwrap();
        }
        write(&path, &all).unwrap();
        write(&path, &all).unwrap();
        let again = Revocations::default();
        read(&path, &again).unwrap();
        for broken in ["not JSON", r#"{"subject":"ann","at":1,"until":18446744073709551615}"#] {
            std::fs::write(&path, format!("\n{broken}\n").trim_start()).unwrap();
            let fault = read(&path, &Revocations::default()).unwrap_err();
            assert_eq!(fault.to_string(), "line 1 is not as staunch wrote it");
        }
        let subjects: Vec<_> = again.list(now).into_iter().map(|one| one.target.subject).collect();
        assert_eq!(subjects, [Some("ann".into())]);
        assert_eq!(again.list(now)[0].target.email.as_deref(), Some("ann@corp.test"));
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path, &Revocations::default()).is_err());
    }
}

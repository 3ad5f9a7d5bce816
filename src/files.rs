//! Files that are read whole, and only if they are files: a pipe would hold up whoever opens it, and a device has no end.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file; an error for a directory, a pipe, a socket, a device.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no file")),
    }
}

/// Reads a file that has at most so many bytes.
pub fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() <= limit {
        true => Ok(bytes),
        false => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes"))),
    }
}

/// Bytes of certificates and revocation lists: more is another file.
pub const MAX_PUBLIC_FILE: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_no_file_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let pipe = std::ffi::CString::new(at("pipe").to_str().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for path in [at("pipe"), at("socket"), folder.path().to_owned(), "/dev/zero".into(), at("missing")] {
            assert!(read(&path, 10).is_err(), "{}", path.display());
        }
        fs::write(at("file"), "ten bytes.").unwrap();
        assert_eq!(read(&at("file"), 10).unwrap(), b"ten bytes.");
        assert!(read(&at("file"), 9).unwrap_err().to_string().contains("more than 9 bytes"));
    }
}

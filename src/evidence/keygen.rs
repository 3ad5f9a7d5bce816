//! `staunch audit keygen`: an auditor's key, as age's.

use super::EvidenceFault;
use crate::recording::format::envelope::Identities;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// `staunch audit keygen`.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// Where the secret half goes; readable by its owner alone, never overwritten. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Makes a key: the secret half to `output` or `out`, the public half and what to do with both to `told`.
pub fn run(arguments: &Arguments, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    let identities = Identities::generate();
    let public = identities.recipients().first().map(ToString::to_string).unwrap_or_default();
    let text = zeroize::Zeroizing::new(format!("# public key: {public}\n{}", &*identities.expose()));
    match &arguments.output {
        // Nobody is told a public key whose secret half has gone nowhere.
        None => out.write_all(text.as_bytes()).and_then(|()| out.flush())?,
        Some(path) => {
            let written = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
            written.map_err(|error| EvidenceFault::File { path: path.clone(), why: error.to_string() })?;
        }
    }
    writeln!(told, "Public key: {public}")?;
    writeln!(told, "Give it to the gateway: [recording] auditors = [\"{public}\", …]")?;
    writeln!(told, "Keep the secret half away from the gateway; it reads recordings:")?;
    let file = arguments.output.as_ref().map_or("FILE".into(), |path| path.display().to_string());
    writeln!(told, "  staunch sessions show SESSION --identity {file}")?;
    Ok(0)
}

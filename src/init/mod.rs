//! `staunch init`: from an issuer and a key to a configuration that works, and the first request to try it with.
//!
//! ```text
//!   flags, questions ──▶ Plan ──▶ staunch.toml, ca.pem, gateway.pem, gateway.key, secrets/… ──▶ check ──▶ what to type next
//! ```
//! Nothing is ever overwritten: the folder is new or empty, and every file in it is made anew. The only thing that is sent
//! anywhere is the question for the issuer's discovery document; without an answer a warning says so.

mod arguments;
mod files;
mod first_request;
mod issuer;
mod kind;
mod plan;
mod question;
mod template;

pub use arguments::Arguments;
pub use kind::Kind;

use crate::client::Fault;
use crate::client::login;
use crate::config;
use plan::Plan;
use question::{Terminal, say};
use std::io::Write;
use std::path::Path;

/// Writes a configuration and says what to type next. Returns the exit code.
pub async fn run(arguments: Arguments) -> Result<u8, Fault> {
    let logs_in = arguments.login;
    let mut terminal = Terminal::open();
    let mut plan = Plan::settle(arguments, &mut terminal)?;
    files::check_free(&plan.folder)?;
    if let Some(note) = issuer::correct(&mut plan).await {
        say(&note);
    }
    if let Some(note) = plan.port_note() {
        say(&note);
    }
    let (written, folder) = files::write(&plan)?;
    let mut text = String::new();
    for (path, what) in &written {
        text += &format!("{:<34} {what}\n", path.display().to_string());
    }
    let loaded = config::load(&plan.configuration()).map_err(|faults| {
        let texts: Vec<_> = faults.list.iter().map(|fault| fault.text.as_str()).collect();
        Fault::Usage(format!("{}; nothing was written", texts.join("\n")))
    })?;
    folder.keep();
    if !loaded.warnings.list.is_empty() {
        say(&loaded.warnings.as_warnings().to_string());
    }
    text += &format!("\n{}\n", loaded.summary);
    if logs_in {
        print(&text)?;
        text.clear();
        login::run(plan.login()).await?;
    }
    text += &first_request::advice(&plan, &program(), !logs_in);
    print(&text)?;
    Ok(0)
}

/// The program as it was called, so that what is printed can be typed.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    match called.contains('/') {
        true => first_request::quote(Path::new(&called)),
        false => "staunch".into(),
    }
}

fn print(text: &str) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(printed?)
}

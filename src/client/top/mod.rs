//! `staunch top`: the live sessions of a gateway in a terminal, as its page shows them. Where standard output is no
//! terminal, the same table as text.

mod screen;
mod table;

use super::fault::Fault;
use super::operator::{OperatorClient, Place};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use screen::{Action, Screen};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};
use table::table;

/// What is shown.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print the table once and end.
    #[arg(long)]
    once: bool,
    /// Print tables, one after another, instead of a screen with keys; so it is anyway where standard output is no terminal.
    #[arg(long)]
    plain: bool,
    /// By what: age, up, down, rate, requests, route, subject or remote.
    #[arg(long, default_value = "rate")]
    sort: String,
    /// Part of a session's subject, route, address, name or id.
    #[arg(long, short)]
    query: Option<String>,
    /// Sessions to show at most.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rows: u16,
    #[command(flatten)]
    place: Place,
}

/// How often the table is new.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Shows the table until `q`, or prints it, again and again unless `once`, until nobody reads it.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Fault> {
    let client = arguments.place.client()?;
    let is_dumb = std::env::var_os("TERM").is_none_or(|kind| kind.is_empty() || kind == "dumb");
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !is_dumb;
    if is_terminal && !arguments.once && !arguments.plain {
        let screen = Screen::new(client.address(), &arguments.sort, arguments.query.as_deref());
        // What is wrong from the start is better told on a screen that stays.
        let first = client.get(&path_of(&screen, arguments.rows))?;
        let mut terminal =
            ratatui::try_init().map_err(|error| Fault::Machine(format!("the terminal: {error}")))?;
        let shown = show(&mut terminal, screen, &first, &client, arguments.rows);
        ratatui::restore();
        return shown.map_err(|error| Fault::Machine(format!("the terminal: {error}")));
    }
    let screen = Screen::new(client.address(), &arguments.sort, arguments.query.as_deref());
    // A sort that the gateway does not know is its own to say.
    let path = match screen::SORTS.contains(&&*arguments.sort) {
        true => path_of(&screen, arguments.rows),
        false => format!(
            "/api/sessions?{}",
            form_urlencoded::Serializer::new(String::new()).append_pair("sort", &arguments.sort).finish()
        ),
    };
    loop {
        let text = table(client.address(), &client.get(&path)?);
        let end = if arguments.once { "" } else { "\n" };
        let written = out.write_all(format!("{text}{end}").as_bytes()).and_then(|()| out.flush());
        if written.is_err() || arguments.once {
            return Ok(());
        }
        std::thread::sleep(REFRESH_INTERVAL);
    }
}

fn path_of(screen: &Screen, rows: u16) -> String {
    let (sort, is_descending, filter) = screen.query();
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("sort", sort).append_pair("order", if is_descending { "desc" } else { "asc" });
    query.append_pair("per_page", &rows.to_string());
    if !filter.is_empty() {
        query.append_pair("q", filter);
    }
    format!("/api/sessions?{}", query.finish())
}

/// Draws and obeys keys until somebody quits.
fn show(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    first: &serde_json::Value,
    client: &OperatorClient,
    rows: u16,
) -> std::io::Result<()> {
    screen.take(first);
    let mut due = Instant::now() + REFRESH_INTERVAL;
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        let action = match event::poll(due.saturating_duration_since(Instant::now()))? {
            true => match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => screen.press(key),
                _ => Action::Draw,
            },
            false => {
                due = Instant::now() + REFRESH_INTERVAL;
                if screen.is_paused { Action::Draw } else { Action::Refresh }
            }
        };
        match action {
            Action::Draw => {}
            Action::Quit => return Ok(()),
            Action::End { session, reason } => {
                let path = format!("/api/sessions/{session}/end");
                let said = client.post(&path, &json!({ "reason": reason }));
                screen.tell(said.map_or_else(|fault| fault.to_string(), |_| format!("{session} was ended")));
            }
            Action::Refresh => match client.get(&path_of(&screen, rows)) {
                Ok(answer) => screen.take(&answer),
                Err(fault) => screen.tell(fault.to_string()),
            },
        }
    }
}

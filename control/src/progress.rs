//! What a long command is doing, on standard error: a line that changes on a terminal, plain lines in
//! a pipe or a log.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Steps of one command.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    step: Option<(String, Instant)>,
}

impl Progress {
    /// A display for this terminal, or for none.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, step: None }
    }

    /// Ends the step before, and begins one.
    pub(crate) fn step(&mut self, what: impl Into<String>) {
        self.end();
        let what = what.into();
        match &self.bar {
            Some(bar) => {
                bar.reset_elapsed();
                bar.set_message(what.clone());
            }
            None => eprintln!("{what} …"),
        }
        self.step = Some((what, Instant::now()));
    }

    /// Something worth keeping that is not a step.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Ends the last step and takes the display away.
    pub(crate) fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let (Some((what, since)), Some(bar)) = (self.step.take(), &self.bar) {
            bar.println(format!("{what} ({:.1}s)", since.elapsed().as_secs_f64()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

//! The scenes: each sends real traffic and compares what came of it with what the example's rules say.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::{
    bed::{Agent, Pod, agent::ADMIN, remote},
    protocol::{Command, Connect, Counts, Http, HttpRequest, Replies},
};

use crate::{bookinfo::Bookinfo, table::Table};

/// Plays every scene.
pub(crate) fn play(bookinfo: &Bookinfo, agent: &Agent<'_>, table: &mut Table) -> Result<()> {
    let stage = Stage { bookinfo, agent };
    stage.split(table)?;
    stage.conditions(table)?;
    stage.callers(table)?;
    stage.kernel_split(table)?;
    stage.limit(table)?;
    stage.faults(table)?;
    stage.change(table)?;
    stage.explain(table)
}

struct Stage<'a> {
    bookinfo: &'a Bookinfo,
    agent: &'a Agent<'a>,
}

/// Requests that a row shows at a time.
const STEP: u64 = 40;

/// Delay that the example gives to calls from reviews v2.
const DELAY: Duration = Duration::from_millis(200);
/// Most connections that the example allows to mongodb.
const LIMIT: u64 = 20;

impl Stage<'_> {
    fn page(&self) -> Result<&Pod> {
        self.bookinfo.pod("productpage")
    }

    /// `count` requests to `service`.
    fn http(&self, service: &str, request: HttpRequest, count: u64) -> Result<Http> {
        let target = self.bookinfo.service(service)?;
        Ok(Http::to(
            target,
            &format!("{service}.default.svc.cluster.local:{}", target.port()),
            request,
            count,
        ))
    }

    fn reviews(&self, request: HttpRequest, count: u64) -> Result<Http> {
        self.http("reviews", request, count)
    }

    fn split(&self, table: &mut Table) -> Result<()> {
        let row = table.row("HTTP requests split by tags", "reviews: v1 75 %, v3 25 %");
        let mut pods = Counts::new();
        for _ in 0..10 {
            let seen = self
                .page()?
                .http(self.reviews(HttpRequest::get("/reviews/0"), STEP)?)?;
            add(&mut pods, &seen);
            row.update(&counts(&pods));
        }
        let of = |pod: &str| pods.get(pod).copied().unwrap_or(0);
        // Exact to one slot of the table.
        let exact = of("reviews-v1").abs_diff(300) <= 1 && of("reviews-v3").abs_diff(100) <= 1;
        row.end(
            exact && of("reviews-v1") + of("reviews-v3") == 400,
            &counts(&pods),
        );
        Ok(())
    }

    fn conditions(&self, table: &mut Table) -> Result<()> {
        let get = || HttpRequest::get("/reviews/0");
        for (what, promised, request, pods) in [
            (
                "header Foo: bar",
                "all to reviews v2",
                get().header("Foo", "bar"),
                &["reviews-v2"][..],
            ),
            (
                "header Foo: baz",
                "as everybody: v1 and v3",
                get().header("Foo", "baz"),
                &["reviews-v1", "reviews-v3"],
            ),
            (
                "cookie user=jason",
                "all to reviews v2",
                get().header("Cookie", "lang=en;user=jason"),
                &["reviews-v2"],
            ),
        ] {
            let row = table.row(what, promised);
            let seen = self.page()?.http(self.reviews(request, STEP)?)?;
            let own: u64 = pods.iter().map(|pod| seen.from(pod)).sum();
            row.end(own == STEP, &counts(&seen.pods));
        }
        Ok(())
    }

    fn callers(&self, table: &mut Table) -> Result<()> {
        for (caller, promised, slow) in [
            ("reviews-v1", "answered at once", false),
            ("reviews-v2", "source tags match: each waits 200 ms", true),
        ] {
            let row = table.row(&format!("ratings called by {caller}"), promised);
            let http = self
                .http("ratings", HttpRequest::get("/ratings/0"), 20)?
                .connections(4);
            let seen = self.bookinfo.pod(caller)?.http(http)?;
            let [fastest, median, slowest] = seen.latency_us.map(Duration::from_micros);
            let right = if slow {
                fastest >= DELAY
            } else {
                median < DELAY / 2
            };
            let text = format!(
                "fastest {} ms, slowest {} ms of {}",
                fastest.as_millis(),
                slowest.as_millis(),
                seen.statuses.values().sum::<u64>()
            );
            row.end(right && seen.failed() == 0, &text);
        }
        Ok(())
    }

    fn kernel_split(&self, table: &mut Table) -> Result<()> {
        let row = table.row("TCP connections split in the kernel", "mongodb: v1 90 %, v2 10 %");
        let target = self.bookinfo.service("mongodb")?;
        let before = self.agent.service("mongodb", target.port())?;
        let mut pods = Counts::new();
        for _ in 0..10 {
            let seen = self.page()?.connect(Connect::to(target, 100))?;
            for (name, count) in seen.served.iter().chain(&seen.errors) {
                *pods.entry(name.clone()).or_default() += count;
            }
            row.update(&counts(&pods));
        }
        let after = self.agent.service("mongodb", target.port())?;
        let of = |pod: &str| pods.get(pod).copied().unwrap_or(0);
        let exact = of("mongodb-v1") == 900 && of("mongodb-v2") == 100;
        let (kernel, proxy) = (after.routed - before.routed, after.proxied - before.proxied);
        let text = format!("{}; by the kernel {kernel}, by the proxy {proxy}", counts(&pods));
        row.end(exact && kernel == 1000 && proxy == 0, &text);
        Ok(())
    }

    fn limit(&self, table: &mut Table) -> Result<()> {
        let row = table.row("connection limit", "mongodb: 20 open at once, no more");
        let target = self.bookinfo.service("mongodb")?;
        let page = self.page()?;
        let pending = page.begin(Command::Connect(Connect::to(target, LIMIT + 1).hold()))?;
        let id = pending.id();
        let seen = pending.connected()?;
        let text = format!("{} open; the next: {}", seen.established(), first(&seen.errors));
        let refused = seen.errors.get("ECONNREFUSED") == Some(&1);
        row.end(seen.established() == LIMIT && refused, &text);

        let row = table.row("one of them closes", "its place is free at once");
        page.release(id, 1)?;
        let again = page.connect_once(target)?;
        page.release(id, usize::try_from(LIMIT)?)?;
        row.end(
            again.is_ok(),
            &again.map_or_else(|error| error, |pod| format!("connected to {pod}")),
        );
        Ok(())
    }

    fn faults(&self, table: &mut Table) -> Result<()> {
        let row = table.row(
            "faults for calls from reviews v2",
            "200 ms delay; 10 % answered with 400",
        );
        let caller = self.bookinfo.pod("reviews-v2")?;
        let (mut aborted, mut answered, mut fastest) = (0, 0, u64::MAX);
        for _ in 0..5 {
            let http = self
                .http("ratings", HttpRequest::get("/ratings/0"), STEP)?
                .connections(20);
            let seen = caller.http(http)?;
            aborted += seen.status(400);
            answered += seen.status(200);
            fastest = fastest.min(seen.latency_us[0]);
            row.update(&format!("{aborted} aborted of {}", aborted + answered));
        }
        let fastest = Duration::from_micros(fastest);
        // A draw of 200 with probability 0.1: five standard deviations are 21.
        let right = aborted + answered == 5 * STEP && (1..=41).contains(&aborted) && fastest >= DELAY;
        let text = format!(
            "{aborted} aborted of {}, none before {} ms",
            aborted + answered,
            fastest.as_millis()
        );
        row.end(right, &text);
        Ok(())
    }

    fn change(&self, table: &mut Table) -> Result<()> {
        let row = table.row(
            "weights change while requests flow",
            "v1 75 → 25 %, no request fails",
        );
        let endless = self
            .reviews(HttpRequest::get("/reviews/0"), u64::MAX)?
            .connections(4);
        let load = self.bookinfo.pod("ratings-v1")?.begin(Command::Http(endless))?;
        let rules = self.bookinfo.file("rules.yaml")?;
        let changed = swap(rules, "weight: 75", "weight: 25").context("rules.yaml has other weights now")?;
        for text in [&changed, rules, &changed, rules, &changed] {
            self.agent.change("rules.yaml", text)?;
        }
        let during = remote::replies(load.stop()?)?;
        // Alone, so that nobody else takes turns.
        let after = self
            .page()?
            .http(self.reviews(HttpRequest::get("/reviews/0"), STEP)?)?;
        self.agent.change("rules.yaml", rules)?;
        let total: u64 = during.statuses.values().sum();
        let failed = during.failed() + total - during.status(200);
        let shifted = after.from("reviews-v1").abs_diff(STEP / 4) <= 1 && after.pods.len() == 2;
        let text = format!(
            "{failed} failed of {total} over 5 changes; then {}",
            counts(&after.pods)
        );
        row.end(failed == 0 && total > 0 && shifted, &text);
        Ok(())
    }

    fn explain(&self, table: &mut Table) -> Result<()> {
        let row = table.row("router explain", "names the rule that jason's requests meet");
        let url = format!("http://{}/reviews/0", self.bookinfo.service("reviews")?);
        let admin = ADMIN.to_string();
        let arguments = [
            "explain",
            "--admin",
            &admin,
            "--from",
            "productpage",
            "--header",
            "Cookie: user=jason",
            &url,
        ];
        let output = self.agent.router(&arguments)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let right = output.status.success() && text.contains("reviews-jason") && text.contains("reviews-v2");
        row.end(right, "see below");
        table.note(&format!("\n$ router {}", shell(&arguments)));
        table.note(text.trim_end());
        if !output.status.success() {
            bail!("router explain: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// Exchanges two texts.
fn swap(text: &str, one: &str, other: &str) -> Option<String> {
    let apart = "weight: swapped";
    let found = text.contains(one) && text.contains(other);
    found.then(|| text.replace(one, apart).replace(other, one).replace(apart, other))
}

fn add(pods: &mut Counts, seen: &Replies) {
    for (name, count) in seen.pods.iter().chain(&seen.errors) {
        *pods.entry(name.clone()).or_default() += count;
    }
}

fn counts(counts: &Counts) -> String {
    let parts: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    parts.join(", ")
}

fn first(errors: &Counts) -> &str {
    errors.keys().next().map_or("no error", String::as_str)
}

/// Arguments as a shell takes them.
pub(crate) fn shell(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|a| {
        if a.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._/:=".contains(c))
        {
            (*a).to_owned()
        } else {
            format!("'{}'", a.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

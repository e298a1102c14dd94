//! Deciding connections that nobody looks into, and how much of them there is to know.
//!
//! It decides nothing about requests.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{Port, Route, Snapshot};
use crate::{cidr::Family, connection::Connection, matcher::Conditions};

impl Snapshot {
    /// Decides a connection that nobody looks into. Rules with HTTP conditions never match.
    pub fn route_connection<'s>(&'s self, port: &'s Port, connection: impl Into<Connection>) -> Route<'s> {
        let connection = connection.into();
        let holds = |entry| {
            let conditions = self.conditions(port, entry);
            conditions.hold_for_connection(&self.sources, &connection) == Some(true)
        };
        Route {
            caller: connection.class,
            ..self.route(port, port.index.first_for_connection(holds))
        }
    }

    /// True when [`Snapshot::route_connection`] may answer differently once more is known of the caller: a rule before
    /// the one that matches asks who or where it is.
    pub fn is_undecided(&self, port: &Port, connection: impl Into<Connection>) -> bool {
        let connection = connection.into();
        let mut open = None;
        for &entry in port.index.without_http() {
            match self
                .conditions(port, entry)
                .hold_for_connection(&self.sources, &connection)
            {
                Some(false) => {}
                Some(true) => return open.is_some_and(|rule| rule < entry.rule),
                None => open = open.or(Some(entry.rule)),
            }
        }
        open.is_some()
    }

    /// The frontends of `port`, those together that no rule for connections tells apart.
    pub fn frontend_groups(&self, port: &Port) -> Vec<Vec<SocketAddr>> {
        let told_apart = port
            .index
            .without_http()
            .iter()
            .map(|&entry| self.conditions(port, entry));
        let told_apart: Vec<_> = told_apart.filter(|c| c.look_at_dialled()).collect();
        let mut groups: BTreeMap<Vec<(bool, Option<Family>)>, Vec<SocketAddr>> = BTreeMap::new();
        for &frontend in &port.frontends {
            let of = |c: &&Conditions| {
                let family = c.source_subnets.map(|_| Family::of(frontend.ip()));
                (c.holds_for_dialled(Some(frontend.ip())), family)
            };
            groups
                .entry(told_apart.iter().map(of).collect())
                .or_default()
                .push(frontend);
        }
        groups.into_values().collect()
    }
}

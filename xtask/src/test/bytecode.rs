//! Reads the instructions of the kernel half: additions whose result decides something must be fetching ones.
//!
//! LLVM emits the plain atomic addition for a relaxed one even when its result is used; the register then holds the
//! addend, and every connection would take the same slot. Nothing but the emitted instruction shows it. It does not
//! verify programs; the kernel does.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::harness::Counts;

/// Programs that draw a slot, reserve in a limit and walk a subset's cursor, and the fetching additions that takes.
const FETCHING: [(&str, usize); 2] = [("router_connect4", 3), ("router_connect6", 3)];

/// The test of the functions that are no programs.
const CALLED: &str = "called_functions";

/// One function of the object.
struct Function {
    name: String,
    /// It is an entry point: it lies in a section that names its hook.
    is_program: bool,
    code: Vec<Instruction>,
}

impl Function {
    fn fetching(&self) -> usize {
        let additions = self.code.iter().filter_map(|instruction| instruction.addition());
        additions
            .filter(|addition| *addition == Addition::Fetching)
            .count()
    }
}

/// One eight-byte instruction of the kernel's Documentation/bpf/standardization/instruction-set.rst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Instruction {
    opcode: u8,
    target: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

/// What an atomic addition does with the value from before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Addition {
    Plain,
    Fetching,
}

/// Checks every function of `object`; each is one test. Those whose name lacks `filter` are left out.
pub(super) fn run(object: &Path, filter: &str) -> Result<Counts> {
    let bytes = fs::read(object).with_context(|| object.display().to_string())?;
    let functions = functions(&bytes).with_context(|| object.display().to_string())?;
    if let Some((name, _)) = FETCHING
        .iter()
        .find(|(name, _)| functions.iter().all(|function| function.name != *name))
    {
        bail!("{} has no program {name}", object.display());
    }
    let mut counts = Counts::default();
    let selected = |name: &str| format!("bytecode::{name}").contains(filter);
    for function in functions
        .iter()
        .filter(|function| function.is_program && selected(&function.name))
    {
        let passed = format!("{} fetching additions", function.fetching());
        report(&function.name, &passed, &faults(function), &mut counts);
    }
    // Functions that were not inlined: their names are mangled, so they are one test together.
    if selected(CALLED) {
        let called = functions.iter().filter(|function| !function.is_program);
        let faults: Vec<_> = called.flat_map(faults).collect();
        report(CALLED, "no addition loses its result", &faults, &mut counts);
    }
    Ok(counts)
}

fn report(name: &str, passed: &str, faults: &[String], counts: &mut Counts) {
    if faults.is_empty() {
        counts.passed += 1;
        println!("test bytecode::{name} ... ok ({passed})");
    } else {
        counts.failed += 1;
        println!("test bytecode::{name} ... FAILED");
        faults.iter().for_each(|fault| println!("    {fault}"));
    }
}

/// What is wrong with a function's additions.
fn faults(function: &Function) -> Vec<String> {
    let mut faults = Vec::new();
    let fetching = function.fetching();
    if let Some((_, least)) = FETCHING
        .iter()
        .find(|(name, least)| *name == function.name && fetching < *least)
    {
        faults.push(format!(
            "{fetching} fetching additions, at least {least} are needed: slot cursor, limit, subset cursor"
        ));
    }
    for (at, instruction) in function.code.iter().enumerate() {
        if instruction.addition() == Some(Addition::Plain)
            && let Some(reader) = read_after(&function.code, at + 1, instruction.source)
        {
            faults.push(format!(
                "instruction {at} adds without fetching, but instruction {reader} uses its result r{}: give the \
                 addition sequentially consistent ordering",
                instruction.source
            ));
        }
    }
    faults
}

/// Every function symbol with its instructions.
fn functions(bytes: &[u8]) -> Result<Vec<Function>> {
    let file = object::File::parse(bytes)?;
    let mut functions = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(section) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(section)?;
        let bytes = section.data_range(symbol.address(), symbol.size())?;
        let bytes = bytes.context("a function outside its section")?;
        functions.push(Function {
            name: symbol.name()?.to_owned(),
            is_program: section.name()? != ".text",
            code: bytes.chunks_exact(8).map(Instruction::decode).collect(),
        });
    }
    Ok(functions)
}

impl Instruction {
    const CLASS: u8 = 0x07;
    /// The operand is a register, not the immediate.
    const BY_REGISTER: u8 = 0x08;
    const LOAD_WIDE: u8 = 0x18;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;

    fn decode(bytes: &[u8]) -> Self {
        Self {
            opcode: bytes[0],
            target: bytes[1] & 0x0f,
            source: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            immediate: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    fn is_atomic(self) -> bool {
        // BPF_STX | BPF_ATOMIC, on 32 or 64 bits.
        matches!(self.opcode, 0xc3 | 0xdb)
    }

    fn addition(self) -> Option<Addition> {
        match (self.is_atomic(), self.immediate) {
            (true, 0x00) => Some(Addition::Plain),
            (true, 0x01) => Some(Addition::Fetching),
            _ => None,
        }
    }

    fn is_jump(self) -> bool {
        matches!(self.opcode & Self::CLASS, 0x05 | 0x06) && !matches!(self.opcode, Self::CALL | Self::EXIT)
    }

    fn is_arithmetic(self) -> bool {
        matches!(self.opcode & Self::CLASS, 0x04 | 0x07)
    }

    fn is_move(self) -> bool {
        self.is_arithmetic() && self.opcode & 0xf0 == 0xb0
    }

    /// Whether it computes with `register`. Further additions of the same addend and calls, whose number of arguments
    /// the instruction does not tell, are not counted.
    fn reads(self, register: u8) -> bool {
        let by_source = self.source == register;
        let by_target = self.target == register;
        let by_register = self.opcode & Self::BY_REGISTER != 0 && by_source;
        match self.opcode & Self::CLASS {
            0x01 => by_source,
            0x02 => by_target,
            0x03 => by_target || (by_source && !self.is_atomic()),
            0x04 | 0x07 => by_register || (by_target && !self.is_move()),
            0x05 | 0x06 if self.is_jump() => by_register || by_target,
            _ => false,
        }
    }

    /// Whether `register` holds something else afterwards.
    fn writes(self, register: u8) -> bool {
        match self.opcode {
            Self::CALL => register <= 5,
            Self::LOAD_WIDE => self.target == register,
            _ if self.is_atomic() => self.immediate & 1 == 1 && self.source == register,
            _ => (self.opcode & Self::CLASS == 0x01 || self.is_arithmetic()) && self.target == register,
        }
    }
}

/// The first instruction on any path from `start` that computes with what `register` holds there.
fn read_after(code: &[Instruction], start: usize, register: u8) -> Option<usize> {
    let mut seen = vec![false; code.len()];
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        let Some(instruction) = code.get(at).filter(|_| !std::mem::replace(&mut seen[at], true)) else {
            continue;
        };
        if instruction.reads(register) {
            return Some(at);
        }
        if instruction.writes(register) || instruction.opcode == Instruction::EXIT {
            continue;
        }
        if instruction.is_jump() {
            open.push((at + 1).wrapping_add_signed(isize::from(instruction.offset)));
        }
        // 0x05 and 0x06 with no condition never fall through.
        if !matches!(instruction.opcode, 0x05 | 0x06) {
            open.push(
                at + if instruction.opcode == Instruction::LOAD_WIDE {
                    2
                } else {
                    1
                },
            );
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r0 = 1; lock *(u64 *)(r1 + 0) += r0` with the given immediate, then `tail`.
    fn adding(immediate: i32, tail: &[[u8; 8]]) -> Function {
        let mut code = vec![Instruction::decode(&[0xb7, 0, 0, 0, 1, 0, 0, 0])];
        code.push(Instruction {
            opcode: 0xdb,
            target: 1,
            source: 0,
            offset: 0,
            immediate,
        });
        code.extend(tail.iter().map(|bytes| Instruction::decode(bytes)));
        Function {
            name: "f".to_owned(),
            is_program: true,
            code,
        }
    }

    /// `w0 &= 1; exit`
    const USE: [[u8; 8]; 2] = [[0x54, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    /// `w0 = 1; exit`
    const OVERWRITE: [[u8; 8]; 2] = [[0xb4, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

    #[test]
    fn a_plain_addition_whose_result_is_used_is_found() {
        assert_eq!(faults(&adding(0, &USE)).len(), 1);
        assert!(faults(&adding(1, &USE)).is_empty());
        assert!(faults(&adding(0, &OVERWRITE)).is_empty());
    }

    #[test]
    fn uses_behind_a_jump_are_found() {
        // if r1 == 0 goto +2; r0 = 1; exit; w0 &= 1; exit
        let jump = [
            [0x15, 1, 2, 0, 0, 0, 0, 0],
            OVERWRITE[0],
            OVERWRITE[1],
            USE[0],
            USE[1],
        ];
        assert_eq!(read_after(&adding(0, &jump).code, 2, 0), Some(5));
    }

    #[test]
    fn a_connect_program_needs_its_fetching_additions() {
        let mut function = adding(1, &USE);
        function.name = "router_connect4".to_owned();
        assert_eq!(faults(&function).len(), 1, "one is not enough");
        let addition = function.code[1];
        function.code.extend([addition; 2]);
        assert!(faults(&function).is_empty());
    }
}

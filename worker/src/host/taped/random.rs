//! `wasi:random`: every byte that the guest gets is recorded.

use longshore_proto::trace::RandomSource;
use wasmtime::component::Linker;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::ended;
use crate::host::RunState;
use crate::host::tape::Tape;
use crate::host::wasi::RANDOM_BYTES;

const RANDOM: &str = "wasi:random/random@0.2.12";
const INSECURE: &str = "wasi:random/insecure@0.2.12";
const SEED: &str = "wasi:random/insecure-seed@0.2.12";

pub(super) fn shadow(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    let mut secure = linker.instance(RANDOM)?;
    secure.func_wrap("get-random-bytes", |mut store, (length,): (u64,)| {
        Ok((store.data_mut().random_bytes(RandomSource::Secure, length)?,))
    })?;
    secure.func_wrap("get-random-u64", |mut store, (): ()| {
        Ok((u64::from_le_bytes(store.data_mut().random_number(RandomSource::Secure)?),))
    })?;
    let mut fast = linker.instance(INSECURE)?;
    fast.func_wrap("get-insecure-random-bytes", |mut store, (length,): (u64,)| {
        Ok((store.data_mut().random_bytes(RandomSource::Insecure, length)?,))
    })?;
    fast.func_wrap("get-insecure-random-u64", |mut store, (): ()| {
        Ok((u64::from_le_bytes(store.data_mut().random_number(RandomSource::Insecure)?),))
    })?;
    linker.instance(SEED)?.func_wrap("insecure-seed", |mut store, (): ()| {
        let seed = u128::from_le_bytes(store.data_mut().random_number(RandomSource::Seed)?);
        // The halves of 128 bits: nothing is lost.
        #[expect(clippy::cast_possible_truncation, reason = "each half is taken")]
        let halves = (seed as u64, (seed >> 64) as u64);
        Ok((halves,))
    })
}

impl RunState {
    fn random_bytes(&mut self, source: RandomSource, length: u64) -> wasmtime::Result<Vec<u8>> {
        // More than the limit ends the run: wasmtime says so, also in a replay.
        if let Tape::Replaying(player) = &self.scope.tape
            && length <= RANDOM_BYTES
        {
            let length = usize::try_from(length)?;
            let bytes = player.random(source, length);
            if bytes.len() != length {
                let why = format!("the trace has {} random bytes where {length} are read", bytes.len());
                return Err(ended(&self.scope, why));
            }
            return Ok(bytes);
        }
        let bytes = self.true_random(source, length)?;
        if let Tape::Recording(recorder) = &self.scope.tape {
            recorder.random(source, &bytes);
        }
        Ok(bytes)
    }

    fn true_random(&mut self, source: RandomSource, length: u64) -> wasmtime::Result<Vec<u8>> {
        let context = self.ctx().ctx.random();
        match source {
            RandomSource::Secure => random::Host::get_random_bytes(context, length),
            RandomSource::Insecure => insecure::Host::get_insecure_random_bytes(context, length),
            RandomSource::Seed => {
                let (low, high) = insecure_seed::Host::insecure_seed(context)?;
                Ok([low.to_le_bytes(), high.to_le_bytes()].concat())
            }
        }
    }

    fn random_number<const N: usize>(&mut self, source: RandomSource) -> wasmtime::Result<[u8; N]> {
        let bytes = self.random_bytes(source, N as u64)?;
        bytes.try_into().map_err(|_| ended(&self.scope, "a random number of the wrong size".to_owned()))
    }
}

//! Runs a recorded call again, in process and without any server: every host call, clock, random number and stream read is answered from the
//! trace, and what the guest does otherwise than recorded is found, classified and shown.

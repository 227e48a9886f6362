"""The wire of Raft: conversion, streams between nodes, the admin service of replicas."""

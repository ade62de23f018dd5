"""ONNX: conversion, graph rewriting and int8 quantization."""

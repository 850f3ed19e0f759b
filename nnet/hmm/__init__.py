"""Hidden Markov models: topologies, context-dependency trees and transition models."""

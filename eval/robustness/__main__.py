from eval.robustness.command import robustness

if __name__ == "__main__":
    robustness()

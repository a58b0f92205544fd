from eval.quality.command import quality

if __name__ == "__main__":
    quality()
